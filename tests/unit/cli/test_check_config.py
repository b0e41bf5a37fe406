"""`mesa check-config`."""

import json
from pathlib import Path

import pytest

from mesa_ws.cli.config.setting import SETTINGS

from .conftest import Command


def test_defaults_are_ok(mesa: Command) -> None:
    result = mesa("check-config")
    assert (result.exit_code, result.stdout) == (0, "ok: no mesa.toml here, 0 from the environment\n")


def test_it_says_what_it_has_read(mesa: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mesa.toml").write_text("port = 1\n[heartbeat]\ninterval = 2", encoding="utf-8")
    monkeypatch.setenv("MESA_HOST", "localhost")
    assert mesa("check-config").stdout == "ok: 2 settings from mesa.toml, 1 from the environment\n"


def test_a_named_file_is_read(mesa: Command) -> None:
    Path("other.toml").write_text("port = 1", encoding="utf-8")
    result = mesa("check-config", "--config", "other.toml")
    assert result.stdout == "ok: 1 settings from other.toml, 0 from the environment\n"


def test_what_is_wrong_is_one_line_and_exit_code_1(mesa: Command) -> None:
    Path("mesa.toml").write_text("[heartbeat]\ninterval = 'x'", encoding="utf-8")
    result = mesa("check-config")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: mesa.toml: heartbeat.interval: "
        "expected a number of seconds, more than 0 and up to 600, got 'x'\n"
    )


def test_a_file_for_the_secret_that_is_not_there_is_wrong(mesa: Command) -> None:
    Path("mesa.toml").write_text("jwt.secret_file = 'nowhere'", encoding="utf-8")
    result = mesa("check-config")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: jwt.secret_file: expected a file to read, got nowhere")


def test_as_json_it_prints_every_setting(mesa: Command) -> None:
    document = json.loads(mesa("check-config", "--json").stdout)
    for path, setting in SETTINGS.items():
        table, _, name = path.rpartition(".")
        assert (document[table] if table else document)[name] == setting.default


def test_as_json_it_prints_no_secrets(mesa: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "MESA_JWT_SECRET": "geheim-geheim-geheim-geheim-geheim",
        "MESA_API_KEY": "geheim-geheim-geheim",
        "MESA_REDIS": "redis://:geheim@localhost:6379",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    result = mesa("check-config", "--json")
    document = json.loads(result.stdout)
    assert "geheim" not in result.stdout
    assert (document["jwt"]["secret"], document["api"]["key"]) == ("***", "***")
    assert document["redis"] == "redis at localhost:6379"
