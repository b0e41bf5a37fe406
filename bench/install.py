"""Installation of the programs that Mesa is compared with, into a cache outside this folder.

They are installed when a benchmark wants them, in fixed versions, and are no dependencies of Mesa. What
cannot be installed is left out, with the reason.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import Skipped

CACHE = Path(
    os.environ.get("MESA_BENCH_CACHE")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mesa-bench"
)
"""Where programs are installed."""

_GO_PLACES = ("/usr/local/go/bin/go", "/usr/lib/go/bin/go")
_SECONDS = 300
_GO_SECONDS = 900
"""A module with all its dependencies is compiled."""


def python_with(name: str, *requirements: str) -> str:
    """Return a Python that has packages installed: the one that runs, in an environment of its own.

    Raises:
        Skipped: they cannot be installed.
    """
    key = hashlib.sha256(repr((sys.base_prefix, *requirements)).encode()).hexdigest()[:8]
    place = CACHE / f"python-{platform.python_version()}-{key}"
    python = place / "bin" / "python"
    if not _is_complete(place):
        base = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        _run(name, (str(base), "-m", "venv", "--clear", str(place)))
        _run(name, (str(python), "-m", "pip", "install", "--quiet", *requirements))
        _complete(place)
    return str(python)


def go_program(name: str, module: str, version: str) -> str:
    """Return a program that is compiled from a Go module.

    Raises:
        Skipped: there is no Go, or the module cannot be had or compiled.
    """
    place = CACHE / f"go-{name}-{version}"
    if not _is_complete(place):
        go = shutil.which("go") or next((each for each in _GO_PLACES if Path(each).exists()), None)
        if go is None:
            raise Skipped(f"{name}: go is not on the PATH; install Go to compare")
        _run(name, (go, "install", f"{module}@{version}"), {"GOBIN": str(place)}, _GO_SECONDS)
        _complete(place)
    return str(next(path for path in place.iterdir() if os.access(path, os.X_OK)))


def node_with(name: str, *packages: str) -> tuple[str, Path]:
    """Return Node, and the folder in which npm packages are installed for it.

    Raises:
        Skipped: Node or npm is missing, or the packages cannot be installed.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise Skipped(f"{name}: {'npm' if node else 'node'} is not on the PATH; install Node.js to compare")
    key = hashlib.sha256(repr(packages).encode()).hexdigest()[:8]
    place = CACHE / f"npm-{key}"
    if not _is_complete(place):
        place.mkdir(parents=True, exist_ok=True)
        command = (npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--save-exact")
        _run(name, (*command, "--prefix", str(place), *packages))
        _complete(place)
    return node, place / "node_modules"


def _is_complete(place: Path) -> bool:
    return (place / "complete").exists()


def _complete(place: Path) -> None:
    (place / "complete").touch()


def _run(
    name: str, command: Sequence[str], environment: Mapping[str, str] | None = None, seconds: float = _SECONDS
) -> None:
    what = f"{Path(command[0]).name} {command[1]}"
    print(f"setting up {name}: {what}", file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Skipped(f"{name}: '{what}' did not end within {seconds:g} s") from error
    except OSError as error:
        raise Skipped(f"{name}: '{what}' did not start: {error}") from error
    if done.returncode:
        raise Skipped(f"{name}: '{what}' failed: {done.stderr.strip()[-300:]}")
