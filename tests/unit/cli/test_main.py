"""`mesa` itself."""

import pytest

from mesa_ws import __version__

from .conftest import Command


def test_it_tells_its_version(mesa: Command) -> None:
    assert mesa("--version").stdout == f"mesa, version {__version__}\n"


def test_the_help_names_every_command(mesa: Command) -> None:
    text = mesa("--help").stdout
    for name in ("serve", "check-config", "dispatch", "disconnect", "tail", "demo"):
        assert f"\n  {name} " in text


@pytest.mark.parametrize("command", ["serve", "check-config", "dispatch", "disconnect", "tail", "demo"])
def test_every_command_has_help(mesa: Command, command: str) -> None:
    result = mesa(command, "-h")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: mesa {command} ")


def test_an_unknown_command_is_a_usage_error(mesa: Command) -> None:
    assert mesa("serv").exit_code == 2
