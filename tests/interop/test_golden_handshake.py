"""Responses to HTTP requests: status, fields and body like those of 1.x."""

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPResponse

import pytest

from mesa_ws import Endpoint, Server

from .served import served
from .wire import LIMIT, opened

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # example and answer of RFC 6455, section 1.3
}
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with served(Server(), path="/ws") as endpoint:
        yield endpoint


class Answer:
    """A response."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = b"" if response.status == 101 else response.read()


def ask(endpoint: Endpoint, path: str, headers: Mapping[str, str]) -> Answer:
    connection = HTTPConnection(endpoint.host, endpoint.port, timeout=LIMIT)
    try:
        connection.request("GET", path, headers=dict(headers))
        return Answer(connection.getresponse())
    finally:
        connection.close()


def test_a_request_without_upgrade_gets_426(endpoint: Endpoint) -> None:
    answer = ask(endpoint, "/ws", {})
    assert (answer.status, answer.body) == (426, b"Upgrade Required")


@pytest.mark.parametrize("path", ["/ws", "/ws?a=1"])
def test_the_path_is_upgraded_whatever_its_query(endpoint: Endpoint, path: str) -> None:
    answer = ask(endpoint, path, UPGRADE)
    assert (answer.status, answer.headers["upgrade"].lower()) == (101, "websocket")
    assert answer.headers["connection"].lower() == "upgrade"
    assert answer.headers["sec-websocket-accept"] == ACCEPT


@pytest.mark.parametrize("path", ["/ws/", "/other"])
def test_another_path_gets_400_and_is_closed(endpoint: Endpoint, path: str) -> None:
    answer = ask(endpoint, path, UPGRADE)
    assert (answer.status, answer.body) == (400, b"Bad Request")
    assert answer.headers["connection"] == "close"


def test_another_version_gets_400_and_is_told_the_right_one(endpoint: Endpoint) -> None:
    answer = ask(endpoint, "/ws", UPGRADE | {"Sec-WebSocket-Version": "12"})
    assert (answer.status, answer.headers["sec-websocket-version"]) == (400, "13")


def test_the_first_subprotocol_is_selected(endpoint: Endpoint) -> None:
    answer = ask(endpoint, "/ws", UPGRADE | {"Sec-WebSocket-Protocol": "a,b"})
    assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "a")


def test_compression_is_declined(endpoint: Endpoint) -> None:
    answer = ask(endpoint, "/ws", UPGRADE | {"Sec-WebSocket-Extensions": "permessage-deflate"})
    assert answer.status == 101
    assert "sec-websocket-extensions" not in answer.headers


def test_a_foreign_origin_is_upgraded(endpoint: Endpoint) -> None:
    assert ask(endpoint, "/ws", UPGRADE | {"Origin": "https://elsewhere.example"}).status == 101


def test_without_a_path_every_path_is_upgraded() -> None:
    with served(Server(), path=None) as endpoint, opened(f"{endpoint.url}any/thing") as wire:
        assert wire.frame().startswith('{"op":10,')
