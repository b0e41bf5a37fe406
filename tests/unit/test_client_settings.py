"""What a client can be told, and what it says when that is wrong."""

import ssl
from typing import Any

import pytest

from mesa_ws.client import Client
from mesa_ws.errors import InvalidSettings
from mesa_ws.transports.client_socket import ServerAddress

URL = "ws://localhost:4000"


def complaint(url: Any = URL, **options: Any) -> str:
    with pytest.raises(InvalidSettings) as raised:
        Client(url, **options)
    return str(raised.value)


@pytest.mark.parametrize(
    "url", ["ws://localhost", "wss://example.com/ws?a=1", "ws://[::1]:4000/", "ws://bücher.example/ä"]
)
def test_a_url_of_a_websocket_is_accepted(url: str) -> None:
    Client(url)


@pytest.mark.parametrize(
    "url",
    [
        None,
        b"ws://localhost",
        "",
        "localhost:4000",
        "http://localhost",
        "ws://",
        "ws://:4000",
        "ws://localhost:port",
        "ws://localhost:70000",
        "ws://localhost:0",
        "ws://localhost/#part",
        "ws://localhost/a b",
        "ws://localhost/\udcfc",
        "ws://localhost/\r\nX: y",
        " ws://localhost",
        "ws://[::1",
    ],
)
def test_any_other_url_is_refused(url: Any) -> None:
    assert complaint(url).startswith("url: expected a URL such as ws://localhost:4000")


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    told = complaint("ws://user:secret@localhost")
    assert "credentials in headers=" in told
    assert "secret" not in told


def test_the_query_of_a_wrong_url_is_not_shown() -> None:
    assert "secret" not in complaint("http://localhost/?token=secret")


def test_an_address_is_shown_without_its_query() -> None:
    assert (
        str(ServerAddress.of("wss://localhost:4000/ws?token=secret", None, None)) == "wss://localhost:4000/ws"
    )


@pytest.mark.parametrize(
    "headers",
    [[("A", "b")], "A: b", {"A b": "c"}, {1: "a"}, {"A": 1}, {"A": "b\r\nC: d"}, {"": "a"}, {"A": "\udcfc"}],
)
def test_headers_that_cannot_be_sent_are_refused(headers: Any) -> None:
    assert complaint(headers=headers).startswith("headers")


def test_the_value_of_a_wrong_header_is_not_shown() -> None:
    assert "secret" not in complaint(headers={"Authorization": "secret\n"})


def test_a_context_for_tls_needs_a_url_with_tls() -> None:
    assert "use wss://" in complaint(ssl=ssl.create_default_context())


def test_a_context_that_is_none_is_refused() -> None:
    assert complaint("wss://localhost", ssl=True) == "ssl: expected an ssl.SSLContext or None, got True"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"queue_size": 0}, "queue_size"),
        ({"queue_size": "many"}, "queue_size"),
        ({"reconnect": {"interval": 0}}, "reconnect.interval"),
        ({"reconnect": {"max_pause": -1}}, "reconnect.max_pause"),
        ({"reconnect": {"tries": 3}}, "reconnect.tries"),
        ({"reconnect": 5}, "reconnect"),
        ({"keepalive": {"interval": None}}, "keepalive.interval"),
        ({"limits": {"max_message": 0}}, "limits.max_message"),
        ({"limits": None}, "limits"),
    ],
)
def test_a_wrong_setting_is_named(options: dict[str, Any], field: str) -> None:
    assert complaint(**options).startswith(f"{field}: expected ")


@pytest.mark.parametrize("reconnect", [True, False, {"enabled": False}, {"interval": 2}])
def test_reconnection_is_given_in_any_form(reconnect: Any) -> None:
    Client(URL, reconnect=reconnect)
