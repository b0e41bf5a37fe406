"""Bundles of parts of the JavaScript client, for pages of tests."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CLIENT = ROOT / "clients/js"

PATIENCE = 120
"""Seconds within which a registry has to answer."""


def modules() -> Path:
    """Return the folder of the client's packages; skip the test where they cannot be installed."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm on the PATH; sh scripts/need-node installs it")
    lock, installed = CLIENT / "package-lock.json", CLIENT / "node_modules/.package-lock.json"
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    with (cache / "npm.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            command = ["npm", "ci", "--no-audit", "--no-fund"]
            done = subprocess.run(
                command, check=False, cwd=CLIENT, capture_output=True, text=True, timeout=PATIENCE
            )
            if done.returncode:
                pytest.skip(f"npm installs nothing here: {done.stderr.strip()[:500]}")
    return CLIENT / "node_modules"


def bundle(entry: Path, to: Path, *options: str) -> None:
    """Bundle a file with its imports, such as the client and React, into an ES module."""
    installed = modules()
    subprocess.run(
        [
            installed / "esbuild/bin/esbuild",
            entry,
            "--bundle",
            "--format=esm",
            "--log-level=warning",
            f"--outfile={to}",
            f"--alias:mesa-ws={CLIENT / 'src/index.ts'}",
            f"--alias:mesa-ws/react={CLIENT / 'src/react/index.ts'}",
            f"--alias:mesa-ws/shared={CLIENT / 'src/shared/index.ts'}",
            *options,
        ],
        check=True,
        cwd=CLIENT,
        env=os.environ | {"NODE_PATH": str(installed)},
        timeout=PATIENCE,
    )
