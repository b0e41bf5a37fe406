"""What the file and the environment say, and how wrong values are told."""

from pathlib import Path

import pytest

from mesa_ws.cli.config import SETTINGS, GivenValue, of_environment, of_file
from mesa_ws.errors import InvalidInput, InvalidSettings


def written(text: str) -> Path:
    file = Path("mesa.toml")
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("port = 5000", "port", 5000),
        ('host = ""', "host", ""),
        ('host = ["127.0.0.1", "::1"]', "host", ["127.0.0.1", "::1"]),
        ('redis = "redis://localhost"', "redis", "redis://localhost"),
        ("[heartbeat]\ninterval = 2.5", "heartbeat.interval", 2.5),
        ("[heartbeat]\ninterval = 3", "heartbeat.interval", 3),
        ("heartbeat = true", "heartbeat.enabled", True),
        ("keepalive = false", "keepalive.enabled", False),
        ('[authentication]\ntimeout = "none"', "authentication.timeout", None),
        ('[jwt]\nalgorithm = "HS512"', "jwt.algorithm", "HS512"),
        ('[api]\nkey = "0123456789abcdef"', "api.key", "0123456789abcdef"),
        ('[portals]\ntypes = ["SAVE"]', "portals.types", ["SAVE"]),
        ("[portals]\ntypes = []", "portals.types", []),
    ],
)
def test_the_file_gives_a_setting(text: str, path: str, value: object) -> None:
    assert of_file(written(text)) == {path: GivenValue(f"mesa.toml: {path}", value)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "[heartbeat]\ninterval = 0",
            "mesa.toml: heartbeat.interval: expected a number of seconds, more than 0 and up to 600, got 0",
        ),
        ("port = 70000", "mesa.toml: port: expected an integer from 0 to 65535, got 70000"),
        ("port = true", "mesa.toml: port: expected an integer from 0 to 65535, got True"),
        ('path = "ws"', "mesa.toml: path: expected a path that starts with /, such as /ws, got 'ws'"),
        (
            "[heartbeat]\nhz = 5",
            "mesa.toml: heartbeat.hz: expected one of enabled, interval, max_attempts, got 'hz'",
        ),
        (
            '[portals]\ntypes = "SAVE"',
            "mesa.toml: portals.types: expected a list of message types, or None for all, got 'SAVE'",
        ),
        ("heartbeat = 5", "mesa.toml: heartbeat: expected a table [heartbeat], got 5"),
        ("limits = true", "mesa.toml: limits: expected a table [limits], got True"),
        ('[jwt]\nalgorithm = "none"', "mesa.toml: jwt.algorithm: expected HS256, HS384 or HS512, got 'none'"),
        ('[log]\nlevel = "loud"', "mesa.toml: log.level: expected debug, info, warning or error, got 'loud'"),
        ('[api]\nkey = "short"', "mesa.toml: api.key: expected 16 or more characters, got '5 of them'"),
    ],
)
def test_a_wrong_value_in_the_file_is_told_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        of_file(written(text))
    assert str(caught.value) == problem


def test_an_unknown_name_in_the_file_is_told_with_those_that_exist() -> None:
    with pytest.raises(InvalidSettings, match=r"mesa.toml: prot: expected one of .*port.*heartbeat.*'prot'"):
        of_file(written("prot = 5000"))


def test_an_unknown_table_in_the_file_is_told() -> None:
    with pytest.raises(InvalidSettings, match=r"mesa.toml: hearbeat: expected one of"):
        of_file(written("[hearbeat]\ninterval = 5"))


@pytest.mark.parametrize("text", ["[jwt]\nsecret = 123456", "[api]\nkey = 123456"])
def test_a_secret_of_a_wrong_type_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidSettings, match="expected text, got 'int'") as caught:
        of_file(written(text))
    assert "123456" not in str(caught.value)


def test_the_password_of_a_wrong_redis_uri_is_not_repeated() -> None:
    with pytest.raises(InvalidSettings, match=r"mesa.toml: redis: expected") as caught:
        of_file(written('redis = "http://:geheim@localhost"'))
    assert "geheim" not in str(caught.value)


def test_the_file_turns_sync_on() -> None:
    assert of_file(written("sync = true"))["sync.enabled"].value is True


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"other.toml: expected a file to read, got: No such file"):
        of_file(Path("other.toml"))


@pytest.mark.parametrize("content", [b"port = ", b"port = \xff", b"a = " + b"[" * 20_000])
def test_a_file_that_is_not_toml_is_told(content: bytes) -> None:
    file = Path("mesa.toml")
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"mesa.toml: expected TOML, got: "):
        of_file(file)


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("MESA_PORT", "5000", "port", 5000),
        ("MESA_HOST", "localhost,::1", "host", ("localhost", "::1")),
        ("MESA_HEARTBEAT_INTERVAL", "2.5", "heartbeat.interval", 2.5),
        ("MESA_KEEPALIVE_ENABLED", "false", "keepalive.enabled", False),
        ("MESA_LOG_JSON", "1", "log.json", True),
        ("MESA_AUTHENTICATION_TIMEOUT", "none", "authentication.timeout", None),
        ("MESA_NAMESPACE", "none", "namespace", "none"),
        ("MESA_JWT_SECRET", "123", "jwt.secret", "123"),
        ("MESA_PORTALS_TYPES", "SAVE", "portals.types", ("SAVE",)),
        ("MESA_PORTALS_TYPES", "SAVE, SEND", "portals.types", ("SAVE", "SEND")),
        ("MESA_PORTALS_TYPES", "none", "portals.types", None),
    ],
)
def test_the_environment_gives_a_setting(variable: str, text: str, path: str, value: object) -> None:
    assert of_environment({variable: text}) == {path: GivenValue(variable, value)}


@pytest.mark.parametrize(
    ("variable", "text", "problem"),
    [
        ("MESA_PORT", "http", "MESA_PORT: expected an integer from 0 to 65535, got 'http'"),
        (
            "MESA_KEEPALIVE_ENABLED",
            "perhaps",
            "MESA_KEEPALIVE_ENABLED: expected True or False, got 'perhaps'",
        ),
        ("MESA_NAMESPACE", "a b", "MESA_NAMESPACE: expected 1 to 64 of A-Z a-z 0-9 _ . - or None, got 'a b'"),
    ],
)
def test_a_wrong_value_in_the_environment_is_told_with_its_variable(
    variable: str, text: str, problem: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        of_environment({variable: text})
    assert str(caught.value) == problem


def test_an_empty_variable_counts_as_absent() -> None:
    assert of_environment({"MESA_REDIS": ""}) == {}


def test_variables_that_name_no_setting_are_left_alone() -> None:
    assert of_environment({"MESA_GL_VERSION_OVERRIDE": "4.5", "PORT": "x"}) == {}


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = [setting.variable for setting in SETTINGS.values()]
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize("path", SETTINGS)
def test_every_default_is_a_value_that_may_be_given(path: str) -> None:
    SETTINGS[path].check(SETTINGS[path].default)
