"""`mesa check-config`."""

import json
from pathlib import Path

import pytest

from mesa_ws.cli.config import SETTINGS

from .conftest import Command

DEMO = "insecure_demo_auth = true\n"


def test_without_a_file_the_environment_may_be_enough(mesa: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESA_JWT_SECRET", "0123456789abcdef0123456789abcdef")
    result = mesa("check-config")
    assert (result.exit_code, result.stdout) == (0, "ok: no mesa.toml here, 1 from the environment\n")


def test_flags_are_checked_as_those_of_serve(mesa: Command) -> None:
    result = mesa("check-config", "--insecure-demo-auth", "--port", "5000")
    assert (result.exit_code, result.stdout) == (
        0,
        "ok: no mesa.toml here, 0 from the environment, 2 from flags\n",
    )


APPLICATION = """
from mesa_ws import Server
server = Server()
"""


@pytest.mark.parametrize(
    ("settings", "arguments", "problem"),
    [
        ("", [], "expected a way for clients to authenticate, got none"),
        (
            'insecure_demo_auth = true\nhost = "0.0.0.0"',
            [],
            "expected a host that only this machine can reach",
        ),
        (DEMO + 'wire = "mesa1"', [], "wire"),
        (
            DEMO + 'wire = "mesa1"\nredis = "redis://localhost"\n[portals]\nenabled = true\ntypes = ["A"]',
            [],
            "portals.types: expected None with wire 'mesa1'",
        ),
        (DEMO + "import_from_1x = true", [], "import_from_1x"),
        (DEMO + "[authentication]\nstore_connected_users = false", [], "store_connected_users"),
        (DEMO + "port = 4001", [], "api.port: expected another one than port, got 4001 for both"),
        (DEMO + 'port = 4001\n[api]\nhost = ""', [], "api.port: expected another one than port"),
        (DEMO, ["--one-port", "--no-api"], "one_port: expected a dispatch API, which api.enabled has turned"),
        ("", ["app:server", "--namespace", "x"], "app:server has settings of its own"),
        ('namespace = "x"', ["app:server"], "app:server has settings of its own"),
        ("", ["app:nothing"], "got nothing: there is no 'nothing' in app"),
    ],
)
def test_what_serve_refuses_is_found(
    mesa: Command, settings: str, arguments: list[str], problem: str
) -> None:
    Path("mesa.toml").write_text(settings, encoding="utf-8")
    Path("app.py").write_text(APPLICATION, encoding="utf-8")
    checked, served = mesa("check-config", *arguments), mesa("serve", *arguments)
    assert problem in checked.stderr
    assert (checked.exit_code, checked.stderr.splitlines()[-1]) == (
        served.exit_code,
        served.stderr.splitlines()[-1],
    )


def test_an_application_that_serve_would_run_is_ok(mesa: Command) -> None:
    Path("app.py").write_text(APPLICATION, encoding="utf-8")
    assert mesa("check-config", "app:server").stdout.startswith("ok: ")


def test_it_says_what_it_has_read(mesa: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mesa.toml").write_text(DEMO + "port = 1\n[heartbeat]\ninterval = 2", encoding="utf-8")
    monkeypatch.setenv("MESA_HOST", "localhost")
    assert mesa("check-config").stdout == "ok: 3 settings from mesa.toml, 1 from the environment\n"


def test_one_port_may_be_the_one_that_the_api_would_have(mesa: Command) -> None:
    for more in (["--one-port"], ["--api-port", "4000"]):
        result = mesa("check-config", "--insecure-demo-auth", "--port", "4001", *more)
        assert (result.exit_code, result.stdout.partition(":")[0]) == (0, "ok")


def test_a_named_file_is_read(mesa: Command) -> None:
    Path("other.toml").write_text(DEMO + "port = 1", encoding="utf-8")
    result = mesa("check-config", "--config", "other.toml")
    assert result.stdout == "ok: 2 settings from other.toml, 0 from the environment\n"


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
    document = json.loads(mesa("check-config", "--insecure-demo-auth", "--json").stdout)
    assert document.pop("insecure_demo_auth") is True
    for path, setting in SETTINGS.items():
        if path == "insecure_demo_auth":
            continue
        table, _, name = path.rpartition(".")
        assert (document[table] if table else document)[name] == (
            list(setting.default) if isinstance(setting.default, tuple) else setting.default
        )


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
