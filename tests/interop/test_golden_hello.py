"""HELLO for each configuration, byte for byte like that of 1.x, except for the two defects below.

One member follows those of 1.x: the wire version of the server, which 1.x clients ignore.
"""

from collections.abc import Mapping

import pytest

from mesa_ws import Server
from mesa_ws.settings import ServerOptions

from .served import served
from .wire import opened

WIRE = ',"v":2'

BEATING = {"enabled": True, "interval": 0.3}
RETURNING = {"enabled": True, "interval": 0.2}

Configurations = Mapping[str, tuple[ServerOptions, str]]
"""Options of a server, and the resulting members of HELLO."""

AS_IN_1X: Configurations = {
    "nothing configured": ({}, '"c_authentication_timeout":10000,"rules":["sends_user_object"]'),
    "heartbeat": (
        {"heartbeat": BEATING},
        '"c_heartbeat_interval":300,"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
    "reconnect": (
        {"reconnect": RETURNING},
        '"c_reconnect_interval":200,"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
    "both given, but disabled": (
        {"heartbeat": {"interval": 0.001}, "reconnect": {"interval": 0.001}},
        '"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
    "authentication timeout": (
        {"authentication": {"timeout": 1.234}},
        '"c_authentication_timeout":1234,"rules":["sends_user_object"]',
    ),
    "no authentication timeout": ({"authentication": {"timeout": None}}, '"rules":["sends_user_object"]'),
    "authentication required": (
        {"authentication": {"required": True}},
        '"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
    "equal versions": (
        {"rules": {"enforce_equal_versions": True}},
        '"c_authentication_timeout":10000,"rules":["enforce_equal_versions","sends_user_object"]',
    ),
    "stored messages": (
        {"rules": {"store_messages": True}},
        '"c_authentication_timeout":10000,"rules":["store_messages","sends_user_object"]',
    ),
    "a namespace": ({"namespace": "g"}, '"c_authentication_timeout":10000,"rules":["sends_user_object"]'),
    "everything": (
        {
            "heartbeat": BEATING,
            "reconnect": RETURNING,
            "rules": {"enforce_equal_versions": True, "store_messages": True},
        },
        '"c_heartbeat_interval":300,"c_reconnect_interval":200,"c_authentication_timeout":10000,'
        '"rules":["enforce_equal_versions","store_messages","sends_user_object"]',
    ),
}

MENDED: Configurations = {
    # Without `rules`, both genuine clients fail with an uncaught error.
    "no user object": (
        {"authentication": {"send_user_object": False}},
        '"c_authentication_timeout":10000,"rules":[]',
    ),
    "nothing to announce": ({"authentication": {"send_user_object": False, "timeout": None}}, '"rules":[]'),
    # 1.x did not announce its default intervals, and then sent a heartbeat every millisecond.
    "heartbeat without an interval": (
        {"heartbeat": True},
        '"c_heartbeat_interval":10000,"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
    "reconnect without an interval": (
        {"reconnect": True},
        '"c_reconnect_interval":5000,"c_authentication_timeout":10000,"rules":["sends_user_object"]',
    ),
}


CONFIGURATIONS = {**AS_IN_1X, **MENDED}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_hello_announces(name: str) -> None:
    options, members = CONFIGURATIONS[name]
    with served(Server(**options)) as endpoint, opened(endpoint.url) as wire:
        assert wire.frame() == f'{{"op":10,"d":{{{members}{WIRE}}}}}'
