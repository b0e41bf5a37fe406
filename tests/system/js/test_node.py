"""The JavaScript client in Node: its own tests, its size, the files that servers deliver, and its package."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mesa_ws.transports.browser_client import FILES
from tests.browser.bundles import CLIENT, ROOT, modules

PATIENCE = 100
"""Seconds for a build, or for the tests of one file."""

MAX_SIZE = 6_200
"""Largest size of the client for browsers after `gzip -9`, in bytes."""

TESTS = sorted(path.name.removesuffix(".ts") for path in (CLIENT / "test").glob("*.test.ts"))


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def size(script: Path) -> int:
    return len(
        subprocess.run(["gzip", "-9"], check=True, input=script.read_bytes(), capture_output=True).stdout
    )


@pytest.fixture(scope="module")
def built(testrun_uid: str) -> Path:
    """The built tests for Node; the first process that needs them builds them."""
    modules()
    note = ROOT / ".cache/js-tests"
    with note.open("a+") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        turn.seek(0)
        if turn.read() != testrun_uid:
            run("node", "build.mjs", "--tests", cwd=CLIENT)
            turn.truncate(0)
            turn.write(testrun_uid)
    return CLIENT / ".cache/test"


def test_the_client_has_tests() -> None:
    assert "vectors.test" in TESTS


@pytest.mark.parametrize("name", TESTS)
def test_the_client_passes_its_own_tests(built: Path, name: str) -> None:
    run("node", "--test", "--test-reporter=spec", built / f"{name}.mjs", cwd=CLIENT)


def test_the_built_files_are_those_that_servers_and_the_package_deliver(tmp_path: Path) -> None:
    installed = modules()
    copy = tmp_path / "clients/js"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("node_modules", "dist", ".cache", "LICENSE"))
    shutil.copy(ROOT / "LICENSE", tmp_path)
    os.symlink(installed, copy / "node_modules")
    (tmp_path / "src/mesa_ws").mkdir(parents=True)
    run("node", "build.mjs", cwd=copy)
    assert size(copy / "dist/mesa.min.js") <= MAX_SIZE
    for name in FILES.values():
        committed = (ROOT / "src/mesa_ws/browser" / name).read_bytes()
        assert (tmp_path / "src/mesa_ws/browser" / name).read_bytes() == committed, (
            f"{name} is not what clients/js makes; run `npm run build` there and commit it"
        )
    [package] = json.loads(run("npm", "pack", "--dry-run", "--json", "--ignore-scripts", cwd=copy))
    packed = {file["path"] for file in package["files"]}
    named = set(re.findall(r'"\./(dist/[^"]+)"', (CLIENT / "package.json").read_text()))
    assert {*named, "dist/types/index.d.ts", "README.md", "LICENSE"} - packed == set()
    assert (copy / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", FILES.values())
def test_the_client_that_servers_deliver_is_small(name: str) -> None:
    assert size(ROOT / "src/mesa_ws/browser" / name) <= MAX_SIZE
