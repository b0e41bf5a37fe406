"""One configuration out of flags, environment and file."""

from pathlib import Path

import pytest

from mesa_ws.cli.config import Configuration, GivenValue, Layer, resolve
from mesa_ws.errors import InvalidInput, InvalidSettings
from mesa_ws.settings import ServerSettings


def flags(**values: object) -> Layer:
    return {name.replace("__", "."): GivenValue(f"--{name}", value) for name, value in values.items()}


def in_file(text: str) -> None:
    Path("mesa.toml").write_text(text, encoding="utf-8")


def test_without_any_source_everything_has_its_default() -> None:
    assert resolve({}, {}).configuration == Configuration()


def test_the_defaults_of_the_server_are_those_of_the_library() -> None:
    options = resolve({}, {}).configuration.server_options
    assert ServerSettings.of(options) == ServerSettings()


def test_the_file_beats_the_default() -> None:
    in_file("port = 1")
    assert resolve({}, {}).configuration.port == 1


def test_the_environment_beats_the_file() -> None:
    in_file("port = 1")
    assert resolve({}, {"MESA_PORT": "2"}).configuration.port == 2


def test_a_flag_beats_the_environment() -> None:
    assert resolve(flags(port=3), {"MESA_PORT": "2"}).configuration.port == 3


def test_settings_of_one_table_come_from_several_sources() -> None:
    in_file("[limits]\nmax_message = 10\nmax_queued = 11")
    limits = resolve({}, {"MESA_LIMITS_MAX_QUEUED": "12"}).configuration.limits
    assert (limits.max_message, limits.max_queued) == (10, 12)


def test_a_file_may_be_named() -> None:
    Path("other.toml").write_text("port = 4", encoding="utf-8")
    in_file("port = 1")
    assert resolve({}, {}, Path("other.toml")).configuration.port == 4


def test_a_named_file_that_is_not_there_is_an_error() -> None:
    with pytest.raises(InvalidInput, match=r"other.toml: expected a file"):
        resolve({}, {}, Path("other.toml"))


@pytest.mark.parametrize("feature", ["heartbeat", "reconnect"])
def test_naming_a_setting_of_a_feature_turns_it_on(feature: str) -> None:
    in_file(f"[{feature}]\ninterval = 3")
    chosen = getattr(resolve({}, {}).configuration, feature)
    assert (chosen.enabled, chosen.interval) == (True, 3)


def test_a_feature_that_is_turned_off_in_so_many_words_stays_off() -> None:
    in_file("[heartbeat]\nenabled = false\ninterval = 3")
    assert resolve({}, {}).configuration.heartbeat.enabled is False


def test_a_flag_turns_on_a_feature_that_the_file_turns_off() -> None:
    in_file("heartbeat = false")
    assert resolve(flags(heartbeat__interval=3.0), {}).configuration.heartbeat.enabled is True


def test_the_environment_turns_off_a_feature_that_the_file_turns_on() -> None:
    in_file("heartbeat = true")
    environment = {"MESA_HEARTBEAT_ENABLED": "false"}
    assert resolve({}, environment).configuration.heartbeat.enabled is False


def test_a_secret_of_a_later_source_replaces_the_file_that_holds_one() -> None:
    in_file('[jwt]\nsecret_file = "secret"')
    jwt = resolve({}, {"MESA_JWT_SECRET": "s"}).configuration.jwt
    assert (jwt.secret, jwt.secret_file) == ("s", None)


def test_a_file_that_holds_the_secret_replaces_one_of_an_earlier_source() -> None:
    jwt = resolve(flags(jwt__secret_file="secret"), {"MESA_JWT_SECRET": "s"}).configuration.jwt
    assert (jwt.secret, jwt.secret_file) == (None, "secret")


def test_a_secret_and_a_file_for_it_from_one_source_are_an_error() -> None:
    in_file('[jwt]\nsecret = "s"\nsecret_file = "f"')
    with pytest.raises(InvalidInput, match=r"jwt: expected secret or secret_file, got both"):
        resolve({}, {})


@pytest.mark.parametrize("flag", ["insecure_demo_auth", "insecure_demo_auth_anywhere"])
def test_tokens_and_demo_authentication_together_are_an_error(flag: str) -> None:
    with pytest.raises(InvalidInput, match=rf"--{flag}: expected it or MESA_JWT_SECRET, got both"):
        resolve(flags(**{flag: True}), {"MESA_JWT_SECRET": "s"})


def test_demo_authentication_that_is_off_leaves_tokens_alone() -> None:
    environment = {"MESA_JWT_SECRET": "s", "MESA_INSECURE_DEMO_AUTH": "false"}
    assert resolve({}, environment).configuration.jwt.secret == "s"


def test_what_the_file_and_the_flags_say_is_kept_apart() -> None:
    in_file("port = 1")
    resolved = resolve(flags(host="h"), {"MESA_PATH": "/ws"})
    assert (list(resolved.file), list(resolved.flags)) == (["port"], ["host"])


def test_a_configuration_is_made_of_a_mapping_or_not_at_all() -> None:
    with pytest.raises(InvalidSettings, match=r"configuration: expected Configuration\(...\) or a mapping"):
        Configuration.of(5)
