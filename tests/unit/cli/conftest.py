"""Fixtures for the command line: nothing of the machine's own settings gets in."""

import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesa_ws.cli import main


class Command:
    """Runs `mesa` in this process."""

    def __call__(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=stdin, prog_name="mesa")


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: empty, and no variable names a setting."""
    for name in os.environ:
        if name.startswith("MESA_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mesa() -> Command:
    return Command()
