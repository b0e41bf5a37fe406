"""The genuine npm packages, installed once into the project's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROJECT = Path(__file__).parents[2]
NPM = Path(__file__).with_name("npm")
CACHE = PROJECT / ".cache" / "interop"
INSTALL = (
    *("install", "--no-package-lock", "--no-audit", "--no-fund"),
    *("--ignore-scripts", "--omit=optional"),
    *("--fetch-retries=1", "--fetch-retry-mintimeout=1000"),
)
INSTALL_TIMEOUT = 50.0
"""Seconds; less than the limit of a test, so that an unreachable registry is a skip."""


class Unavailable(Exception):
    """The packages cannot be installed; the text says why."""


def node() -> str:
    """Return the path of Node.

    Raises:
        Unavailable: Node is missing.
    """
    return _program("node")


def modules(package: Path) -> Path:
    """Return the `node_modules` folder with the dependencies of `package`, a package.json.

    Raises:
        Unavailable: Node or npm is missing, or the packages cannot be fetched.
    """
    node()
    folder = CACHE / hashlib.sha256(package.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        with _alone(folder):
            _install(package, folder)
    return folder / "node_modules"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Install in one process of a run: the others wait, and do not repeat a failed attempt."""
    CACHE.mkdir(parents=True, exist_ok=True)
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
    with folder.with_suffix(".lock").open("a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        failed, _, why = note.read().partition("\n")
        if run and failed == run:
            raise Unavailable(why)
        try:
            yield
        except Unavailable as failure:
            note.truncate(0)
            note.write(f"{run}\n{failure}")
            raise


def _install(package: Path, folder: Path) -> None:
    """Install next to `folder` and move the result there, so that no partial installation is visible."""
    if folder.exists():
        return
    with tempfile.TemporaryDirectory(dir=CACHE) as workshop:
        made = Path(workshop) / "made"
        made.mkdir()
        shutil.copy(package, made)
        _npm(made)
        made.rename(folder)


def _npm(folder: Path) -> None:
    command = [_program("npm"), *INSTALL]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm install took longer than {INSTALL_TIMEOUT:g} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise Unavailable(f"npm install failed: {' '.join(errors[:3]) or done.stderr.strip()}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is not on the PATH")
    return found
