"""The reference pages say what the command line does."""

import json
import re
from pathlib import Path

import click
import pytest

from mesa_ws.cli import main
from mesa_ws.cli.config import SETTINGS, of_file

REFERENCE = Path(__file__).parents[3] / "docs/reference"
CONFIGURATION = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
COMMANDS = (REFERENCE / "cli.md").read_text(encoding="utf-8")


def row_of(path: str) -> list[str]:
    [row] = re.findall(rf"^\| `{re.escape(path)}` \|.*$", CONFIGURATION, re.MULTILINE)
    return [cell.strip(" `") for cell in row.split("|")[1:-1]]


@pytest.mark.parametrize("path", SETTINGS)
def test_the_page_has_every_setting_with_its_variable_and_default(path: str) -> None:
    setting = SETTINGS[path]
    default = "" if setting.default is None else str(setting.default)
    if isinstance(setting.default, bool):
        default = json.dumps(setting.default)
    if isinstance(setting.default, tuple):
        default = ",".join(setting.default)
    assert row_of(path)[:3] == [path, setting.variable, default]


def test_the_page_has_no_other_settings() -> None:
    assert set(re.findall(r"^\| `([a-z0-9_.]+)` \|", CONFIGURATION, re.MULTILINE)) == set(SETTINGS)


def test_the_example_on_the_page_is_a_configuration(tmp_path: Path) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", CONFIGURATION, re.DOTALL)
    file = tmp_path / "mesa.toml"
    file.write_text(example, encoding="utf-8")
    assert len(of_file(file)) == 5


@pytest.mark.parametrize("name", main.commands)
def test_the_page_has_every_command_with_its_flags(name: str) -> None:
    section = re.split(rf"^## mesa {name}$", COMMANDS, flags=re.MULTILINE)[1].split("\n## ")[0]
    if name in {"disconnect", "check-config"}:  # their flags are those of the command before
        section += COMMANDS
    flags = [
        flag
        for parameter in main.commands[name].params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
    ]
    assert [flag for flag in flags if flag not in section] == []
