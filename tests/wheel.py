"""Build of the wheel of this clone, and of environments to test it in, by uv."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LIMIT = 120.0
"""Seconds for one environment, including downloads."""

UNREACHABLE = re.compile(r"Failed to fetch|error sending request|dns error|Could not connect", re.IGNORECASE)


def build_wheel(directory: Path) -> Path:
    """Build the wheel into an empty directory, and return its path."""
    uv("build", "--wheel", "--out-dir", str(directory), str(ROOT))
    [wheel] = directory.glob("*.whl")
    return wheel


def uv(*arguments: str) -> None:
    """Run uv; skip the test where the package index cannot be reached."""
    command = [sys.executable, "-m", "uv", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
