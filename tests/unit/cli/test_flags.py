"""The flags of `mesa serve`; each test command prints what it was given."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from mesa_ws.cli.config import Layer
from mesa_ws.cli.options import given_flags, setting_flags

from .conftest import Command


def given(*arguments: str) -> Layer:
    layers: list[Layer] = []

    @click.command()
    @setting_flags
    @click.pass_context
    def command(context: click.Context) -> None:
        layers.append(given_flags(context))

    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return layers[0]


@pytest.mark.parametrize(
    ("arguments", "path", "value"),
    [
        (["--port", "0"], "port", 0),
        (["--host", "localhost"], "host", "localhost"),
        (["--host", "127.0.0.1, ::1"], "host", ("127.0.0.1", "::1")),
        (["--host", ""], "host", ""),
        (["--api-host", "127.0.0.1,::1"], "api.host", ("127.0.0.1", "::1")),
        (["--redis", "redis://localhost"], "redis", "redis://localhost"),
        (["--trusted-proxies", "10.0.0.0/8, ::1/128"], "trusted_proxies", ("10.0.0.0/8", "::1/128")),
        (["--auth-required"], "authentication.required", True),
        (["--auth-timeout", "2.5"], "authentication.timeout", 2.5),
        (["--auth-timeout", "none"], "authentication.timeout", None),
        (["--heartbeat-interval", "5"], "heartbeat.interval", 5.0),
        (["--no-api"], "api.enabled", False),
        (["--insecure-demo-auth"], "insecure_demo_auth", True),
        (["--log-json"], "log.json", True),
    ],
)
def test_a_flag_gives_a_setting(arguments: list[str], path: str, value: Any) -> None:
    assert given(*arguments) == {path: (arguments[0], value)}


def test_flags_that_are_not_there_give_nothing() -> None:
    assert given() == {}


def test_a_wrong_value_is_a_usage_error_that_names_the_flag(mesa: Command) -> None:
    result = mesa("serve", "--port", "70000")
    assert result.exit_code == 2
    problem = "Invalid value for '--port': expected an integer from 0 to 65535, got '70000'"
    assert problem in result.stderr


def test_the_help_says_the_variable_and_the_default(mesa: Command) -> None:
    text = " ".join(mesa("serve", "--help").stdout.split())
    assert "[MESA_PORT; default: 4000]" in text


def test_the_help_says_that_heartbeats_are_off_by_default(mesa: Command) -> None:
    text = " ".join(mesa("serve", "--help").stdout.split())
    assert "[MESA_HEARTBEAT_INTERVAL; default: off]" in text
