"""Settings, and what is said about wrong ones."""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.errors import InvalidSettings
from mesa_ws.settings import (
    PRIVATE_NETWORKS,
    Authentication,
    Heartbeat,
    Keepalive,
    Limits,
    Portals,
    Reconnect,
    Rules,
    ServerSettings,
    Settings,
    Sync,
    check_namespace,
    features,
)


class Kind(StrEnum):
    SAVE = "SAVE"


class Name(str):
    """Text of an application's own kind."""


SECONDS = "a number of seconds, more than 0 and up to 86400"
INTERVAL = "a number of seconds, more than 0 and up to 600"


def test_the_defaults_are_those_of_1x_with_a_keepalive() -> None:
    assert msgspec.to_builtins(ServerSettings()) == {
        "namespace": None,
        "allowed_origins": None,
        "wire": "native",
        "import_from_1x": False,
        "trusted_proxies": None,
        "proxy_header": "x-forwarded-for",
        "sync": {
            "enabled": False,
            "max_messages": 1000,
            "max_bytes": 8 * 1024 * 1024,
            "ttl": 604_800.0,
            "allow_eviction": False,
            "redelivery_interval": None,
            "resume_window": 120.0,
            "proof": "heartbeat",
        },
        "presence": {"grace": 5.0},
        "portals": {
            "enabled": False,
            "distribute_load": True,
            "backlog_max": 100_000,
            "backlog_bytes": 1 << 30,
            "durability": "memory",
            "types": None,
        },
        "heartbeat": {"enabled": False, "interval": 10.0, "max_attempts": 3},
        "reconnect": {"enabled": False, "interval": 5.0},
        "authentication": {
            "timeout": 10.0,
            "required": False,
            "anonymous": True,
            "send_user_object": True,
            "disconnect_on_fail": True,
            "store_connected_users": True,
        },
        "keepalive": {"enabled": True, "interval": 25.0, "timeout": 20.0},
        "limits": {
            "max_message": 1024 * 1024,
            "max_buffered": 8 * 1024 * 1024,
            "max_node_buffer": 256 * 1024 * 1024,
            "max_fragments": 64,
            "max_queued": 64,
            "max_queued_bytes": None,
            "max_requests": 64,
            "guest_max_message": 64 * 1024,
            "guest_max_queued": 16,
            "guest_max_queued_bytes": 128 * 1024,
            "guest_max_requests": 8,
            "guests_max_waiting": 32 * 1024 * 1024,
            "handler_threads": 32,
            "max_connections": None,
            "max_handshakes": 1000,
            "max_handshakes_per_second": 2000,
            "max_logins": 1000,
            "max_lag": 0.25,
            "max_wait": 5.0,
            "max_unauthenticated_per_address": 256,
            "max_connections_per_id": None,
            "when_id_is_full": "refuse",
            "max_failed_logins_per_address": 32,
            "exempt_networks": PRIVATE_NETWORKS,
        },
        "rates": {
            "messages_per_connection": 2000,
            "bytes_per_connection": 16 * 1024 * 1024,
            "messages_per_id": 4000,
            "bytes_per_id": 32 * 1024 * 1024,
            "burst": 10.0,
            "excess": "delay",
        },
        "rules": {"enforce_equal_versions": False, "version": "1.5.8", "store_messages": False},
    }


@pytest.mark.parametrize(
    "given",
    [True, {"enabled": True}, Heartbeat(enabled=True)],
)
def test_a_feature_may_be_given_in_three_forms(given: Any) -> None:
    assert ServerSettings.of({"heartbeat": given}).heartbeat == Heartbeat(enabled=True)


def test_a_feature_may_be_given_in_any_form_to_the_class_itself() -> None:
    settings = ServerSettings(heartbeat={"enabled": True, "interval": 3})  # type: ignore[arg-type]
    assert settings.heartbeat == Heartbeat(enabled=True, interval=3.0)


def test_settings_are_taken_as_they_are() -> None:
    settings = ServerSettings()
    assert ServerSettings.of(settings) is settings


def test_every_feature_of_a_server_can_be_found_by_name() -> None:
    assert set(features(ServerSettings)) == set(ServerSettings.__struct_fields__) - {
        "namespace",
        "allowed_origins",
        "wire",
        "import_from_1x",
        "trusted_proxies",
        "proxy_header",
    }


@pytest.mark.parametrize("number", [3, 3.0, Decimal(3)])
def test_seconds_become_a_float(number: Any) -> None:
    assert repr(Heartbeat(interval=number).interval) == "3.0"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Heartbeat().enabled = True  # type: ignore[misc]


@pytest.mark.parametrize("types", [["SAVE"], ("SAVE",), {"SAVE"}, [Kind.SAVE], [Name("SAVE")]])
def test_types_for_portals_are_any_collection_of_text(types: Any) -> None:
    settings = ServerSettings.of({"portals": {"types": types}})
    assert settings.portals == Portals(enabled=True, types=("SAVE",))
    [type] = settings.portals.types or ()
    assert type.__class__ is str


def test_types_turn_portals_on_unless_they_are_turned_off() -> None:
    assert [Portals(types=types).enabled for types in (None, (), ("SAVE",))] == [False, True, True]
    assert Portals(enabled=False, types=("SAVE",)).enabled is False
    assert Portals(enabled=True).enabled is True


def test_no_timeout_is_a_timeout() -> None:
    assert Authentication(timeout=None).timeout is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"nope": 1},
            "nope: expected one of namespace, allowed_origins, wire, import_from_1x, trusted_proxies, "
            "proxy_header, sync, presence, portals, heartbeat, reconnect, authentication, keepalive, limits, "
            "rates, rules, got 'nope'",
        ),
        ({"heartbeat": 5}, "heartbeat: expected Heartbeat(...) or a mapping of its fields, got 5"),
        ({"heartbeat": None}, "heartbeat: expected Heartbeat(...) or a mapping of its fields, got None"),
        ({"limits": True}, "limits: expected Limits(...) or a mapping of its fields, got True"),
        (
            {"heartbeat": {"every": 5}},
            "heartbeat.every: expected one of enabled, interval, max_attempts, got 'every'",
        ),
        ({"heartbeat": {5: 5}}, "heartbeat.5: expected one of enabled, interval, max_attempts, got 5"),
        ({"heartbeat": {"enabled": 1}}, "heartbeat.enabled: expected True or False, got 1"),
        ({"heartbeat": {"interval": "1"}}, f"heartbeat.interval: expected {INTERVAL}, got '1'"),
        ({"heartbeat": {"interval": 0}}, f"heartbeat.interval: expected {INTERVAL}, got 0"),
        ({"heartbeat": {"interval": True}}, f"heartbeat.interval: expected {INTERVAL}, got True"),
        ({"heartbeat": {"interval": float("nan")}}, f"heartbeat.interval: expected {INTERVAL}, got nan"),
        ({"heartbeat": {"interval": float("inf")}}, f"heartbeat.interval: expected {INTERVAL}, got inf"),
        (
            {"heartbeat": {"max_attempts": 2.0}},
            "heartbeat.max_attempts: expected an integer from 1 to 2147483648, got 2.0",
        ),
        (
            {"portals": {"types": "SAVE"}},
            "portals.types: expected a list of message types, or None for all, got 'SAVE'",
        ),
        (
            {"portals": {"types": ["SAVE", 7]}},
            "portals.types: expected a list of message types, or None for all, got ['SAVE', 7]",
        ),
        (
            {"portals": {"types": {"SAVE": 1}}},
            "portals.types: expected a list of message types, or None for all, got {'SAVE': 1}",
        ),
        (
            {"limits": {"exempt_networks": ["10.0.0.1/8"]}},
            "limits.exempt_networks: expected a list of networks such as '10.0.0.0/8', or None, "
            "got '10.0.0.1/8'",
        ),
        (
            {"limits": {"exempt_networks": "10.0.0.0/8"}},
            "limits.exempt_networks: expected a list of networks such as '10.0.0.0/8', or None, "
            "got '10.0.0.0/8'",
        ),
        (
            {"trusted_proxies": ["proxy.internal"]},
            "trusted_proxies: expected a list of networks such as '10.0.0.0/8', or None, "
            "got 'proxy.internal'",
        ),
        ({"proxy_header": "Via"}, "proxy_header: expected 'x-forwarded-for' or 'forwarded', got 'Via'"),
        (
            {"limits": {"max_message": 2**40}},
            "limits.max_message: expected an integer from 1 to 2147483648, got 1099511627776",
        ),
        ({"heartbeat": {"interval": 10_000}}, f"heartbeat.interval: expected {INTERVAL}, got 10000"),
        ({"reconnect": {"interval": 5_000}}, f"reconnect.interval: expected {INTERVAL}, got 5000"),
        ({"authentication": {"timeout": 1_000}}, f"authentication.timeout: expected {INTERVAL}, got 1000"),
        ({"authentication": {"timeout": 0}}, f"authentication.timeout: expected {INTERVAL}, got 0"),
        ({"rules": {"version": 1}}, "rules.version: expected text, got 1"),
        ({"namespace": "a b"}, "namespace: expected 1 to 64 of A-Z a-z 0-9 _ . - or None, got 'a b'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_was_expected_and_what_came(
    options: Mapping[str, Any], text: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        ServerSettings.of(options)
    assert str(caught.value) == text


def test_a_type_without_a_description_of_its_own_is_described_by_its_name() -> None:
    class Shape(Settings, frozen=True, kw_only=True):
        sides: Annotated[int, "three at least"] = 3

    with pytest.raises(InvalidSettings, match=r"^shape\.sides: expected `int`, got 'four'$"):
        Shape(sides="four")  # type: ignore[arg-type]


def test_a_wrong_setting_can_be_read_by_programs() -> None:
    with pytest.raises(InvalidSettings) as caught:
        Keepalive(timeout=-1)
    assert (caught.value.field, caught.value.expected, caught.value.got) == ("keepalive.timeout", SECONDS, -1)


@pytest.mark.parametrize("given", [True, {"enabled": True}])
def test_sync_may_be_turned_on(given: Any) -> None:
    assert ServerSettings.of({"sync": given}).sync == Sync(enabled=True)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("ttl", 0, "more than 0 and up to 366 days, got 0"),
        ("ttl", 367 * 86_400, "more than 0 and up to 366 days, got 31708800"),
        ("resume_window", -1, "0 or more and up to 86400, got -1"),
        ("max_messages", 0, "an integer from 1 to 2147483648, got 0"),
        ("proof", "pong", "'heartbeat' or 'ping', got 'pong'"),
        ("redelivery_interval", 0, f"{INTERVAL}, got 0"),
        ("redelivery_interval", 1000, f"{INTERVAL}, got 1000"),
    ],
)
def test_limits_of_sync_are_checked(field: str, value: object, text: str) -> None:
    with pytest.raises(InvalidSettings, match=rf"^sync.{field}: expected .*{re.escape(text)}$"):
        Sync.of({field: value})


def test_nothing_needs_a_window_or_a_grace() -> None:
    settings = ServerSettings.of({"sync": {"resume_window": 0}, "presence": {"grace": 0}})
    assert (settings.sync.resume_window, settings.presence.grace) == (0.0, 0.0)


@pytest.mark.parametrize("given", [False, {"enabled": False}, {}, Sync()])
def test_sync_may_be_turned_off(given: Any) -> None:
    assert not ServerSettings.of({"sync": given}).sync.enabled


@pytest.mark.parametrize("namespace", [None, "a", "A-Z_0.9", "x" * 64])
def test_a_namespace_is_a_short_plain_name(namespace: str | None) -> None:
    assert check_namespace(namespace) == namespace


@pytest.mark.parametrize("namespace", ["", "x" * 65, "a b", "é", "a\n", "{a}", "a:b", 5, b"a"])
def test_anything_else_is_no_namespace(namespace: object) -> None:
    with pytest.raises(InvalidSettings, match=r"^namespace: expected 1 to 64 of"):
        check_namespace(namespace)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.builds(object)


@pytest.mark.parametrize(
    "feature", [Heartbeat, Reconnect, Authentication, Keepalive, Limits, Rules, Sync, ServerSettings]
)
@given(data=st.data())
def test_any_value_is_accepted_or_named(feature: type[Settings], data: st.DataObject) -> None:
    names = st.sampled_from(feature.__struct_fields__)
    options = data.draw(VALUES | st.dictionaries(names, VALUES))
    try:
        settings = feature.of(options)
    except InvalidSettings:
        return
    assert isinstance(settings, feature)
