"""Environment variables: which one names the address, and those that are typing errors."""

from pathlib import Path

import pytest

from mesa_ws.cli import main

from .conftest import Command

KEY = "0123456789abcdef"
ON_DISPATCH = [
    ("dispatch", "TYPE", "1", "--all"),
    ("disconnect", "--all"),
    ("request", "0", "TYPE", "1"),
    ("presence",),
    ("outbox", "show", "0"),
    ("outbox", "purge", "0", "--yes"),
]
ON_REDIS = [("portal", "status"), ("portal", "dead-letters", "list")]
NOWHERE = "redis://127.0.0.1:1"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MESA_PROT", "MESA_PORT"),
        ("MESA_REDSI", "MESA_REDIS"),
        ("MESA_ULR", "MESA_URL"),
        ("MESA_HEARTBEAT_INTERVALL", "MESA_HEARTBEAT_INTERVAL"),
        ("MESA_APIKEY", "MESA_API_KEY"),
        ("MESA_CONFG", "MESA_CONFIG"),
    ],
)
@pytest.mark.parametrize(
    "command", [("check-config", "--insecure-demo-auth"), ("portal", "run", "no:portal")]
)
def test_a_variable_that_is_almost_one_of_ours_is_warned_of(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, name: str, meant: str, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv(name, "5000")
    warnings = [line for line in mesa(*command).stderr.splitlines() if line.startswith("Warning")]
    assert warnings == [f"Warning: {name}: there is no such variable; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        "MESA_GL_VERSION_OVERRIDE",
        "MESA_DEBUG",
        "MESA_LOG_FILE",
        "MESA_NO_ERROR",
        "PORT",
        "MESA_",
        "MESA_TOKEN",
    ],
)
def test_other_variables_are_left_alone(mesa: Command, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    result = mesa("check-config", "--insecure-demo-auth")
    assert (result.exit_code, result.stderr) == (0, "")


@pytest.mark.parametrize("command", [*ON_DISPATCH, *ON_REDIS])
def test_the_redis_variable_is_read_by_each_command_and_named_in_its_error(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MESA_REDIS", NOWHERE)
    result = mesa(*command)
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr
    assert result.stderr.rstrip().endswith("(address: MESA_REDIS)")


@pytest.mark.parametrize("command", ON_DISPATCH)
def test_the_address_variable_comes_before_the_redis_variable(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MESA_REDIS", "redis://127.0.0.1:2")
    monkeypatch.setenv("MESA_URL", NOWHERE)
    result = mesa(*command)
    assert "127.0.0.1:1" in result.stderr
    assert result.stderr.rstrip().endswith("(address: MESA_URL)")


@pytest.mark.parametrize("command", ON_DISPATCH)
def test_what_is_typed_comes_first(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("MESA_URL", "redis://127.0.0.1:2")
    result = mesa(*command, "--url", NOWHERE)
    assert result.stderr.rstrip().endswith("(address: --url)")


def test_the_default_is_named_too(mesa: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    [option] = [each for each in main.commands["presence"].params if each.name == "url"]
    monkeypatch.setattr(option, "default", "http://127.0.0.1:1")
    result = mesa("presence", "--key", KEY)
    assert "(address: the default; --url or MESA_URL or MESA_REDIS names another)" in result.stderr


@pytest.mark.parametrize("variable", ["MESA_URL", "MESA_REDIS"])
@pytest.mark.parametrize("command", ON_DISPATCH)
def test_an_address_that_is_none_is_told_by_its_variable(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], variable: str
) -> None:
    monkeypatch.setenv(variable, "nonsense://x")
    result = mesa(*command)
    assert f"Error: {variable}: expected " in result.stderr


def test_a_portal_is_told_that_its_variable_names_no_redis(
    mesa: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESA_REDIS", "http://127.0.0.1:4001")
    assert "MESA_REDIS: expected a Redis" in mesa("portal", "status").stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://127.0.0.1:1"])
def test_an_address_for_clients_is_told_by_its_variable(
    mesa: Command, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("MESA_WS_URL", url)
    assert "MESA_WS_URL" in mesa("tail", "--id", "0").stderr


@pytest.mark.parametrize(
    ("settings", "environment", "where"),
    [
        (f'redis = "{NOWHERE}"', {}, "mesa.toml: redis"),
        ("", {"MESA_REDIS": NOWHERE}, "MESA_REDIS"),
        (f'redis = "{NOWHERE}"', {"MESA_REDIS": NOWHERE}, "MESA_REDIS"),
    ],
)
def test_a_server_names_the_place_of_the_redis_that_it_does_not_reach(
    mesa: Command,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    environment: dict[str, str],
    where: str,
) -> None:
    Path("mesa.toml").write_text(settings, encoding="utf-8")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = mesa("serve", "--insecure-demo-auth", "--no-api", "--port", "0")
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith(f"(address: {where})")
