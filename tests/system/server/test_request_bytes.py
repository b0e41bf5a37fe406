"""What a handshake has to be, and how bytes above 127 are read: each is one character."""

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.server.request import Request
from mesa_ws.transports import server_socket
from mesa_ws.transports.run import Endpoint, Server
from tests.unit.protocol.test_vectors import ALL as VECTORS
from tests.unit.protocol.test_vectors import content

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, RawPeer

pytestmark = pytest.mark.native("the bytes of the handshake")

LATIN, UTF8 = "J\udcfcrgen", "J\u00fcrgen"
"""As one client and another send the same name; the first is not UTF-8."""


def describing() -> tuple[Server, asyncio.Queue[Request]]:
    """A server whose users are described by what their handshake said."""
    server = Server()
    requests: asyncio.Queue[Request] = asyncio.Queue()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        request = connection.request
        logging.getLogger("application").warning("login of %s", request.headers)
        requests.put_nowait(request)
        return User(data["id"], {"headers": dict(request.headers), "query": request.query})

    return server, requests


@pytest.mark.parametrize("name", ["X-Name", "Cookie", "User-Agent", "Origin", "Authorization"])
async def test_a_header_value_above_127_does_not_cost_the_login(
    serving: Serving, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    server, _ = describing()
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        assert " 101 " in await peer.upgrade(extra=f"\n{name}: {LATIN}")
        await peer.frame(1, b'{"op":2,"d":{"id":"1"}}')
        while True:
            _, payload = await peer.next_frame()
            if (acknowledged := json.loads(payload))["op"] == 22:
                break
    assert acknowledged["d"]["headers"][name] == "J\u00fcrgen"
    assert "Traceback" not in capfd.readouterr().err


async def test_each_byte_of_the_handshake_is_one_character(serving: Serving) -> None:
    server, requests = describing()
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        path = f"/{LATIN}/{UTF8}?plain={LATIN}&percent=J%C3%BCrgen&neither=%FC"
        assert " 101 " in await peer.upgrade(path, f"\nX-Latin: {LATIN}\nX-Utf: {UTF8}\nx-latin: second")
        await peer.frame(1, b'{"op":2,"d":{"id":"1"}}')
        async with asyncio.timeout(LIMIT):
            request = await requests.get()
    assert request.path == "/J\u00fcrgen/J\u00c3\u00bcrgen"
    assert request.headers["x-latin"] == "J\u00fcrgen"
    assert request.headers["X-Utf"].encode("latin-1").decode() == "J\u00fcrgen"
    assert request.query == {"plain": "J\u00fcrgen", "percent": "J\u00fcrgen", "neither": "\ufffd"}
    assert [value for name, value in request.headers.items() if name.lower() == "x-latin"] == [
        "J\u00fcrgen",
        "second",
    ]


@pytest.mark.parametrize(
    ("path", "extra"),
    [("/", "\nX-\udcfc: 1"), ("/", f"\nSec-WebSocket-Protocol: {LATIN}"), ("/", "\nContent-Length: \udcfc")],
)
async def test_where_ascii_is_asked_for_such_bytes_are_a_bad_request(
    serving: Serving, caplog: pytest.LogCaptureFixture, path: str, extra: str
) -> None:
    endpoint = await serving(describing()[0])
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        assert (await peer.upgrade(path, extra)).startswith("HTTP/1.1 400 ")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


HANDSHAKES = [(name, case) for kind, name, case in VECTORS if kind == "handshakes"]


async def test_a_handshake_is_answered_as_the_vectors_say(
    stack: AsyncExitStack, serving: Serving, caplog: pytest.LogCaptureFixture
) -> None:
    endpoints: dict[str, Endpoint] = {}
    expected, found = {}, {}
    for name, case in HANDSHAKES:
        options = {each: case.get(each) for each in ("path", "settings", "connections")}
        if (key := json.dumps(options)) not in endpoints or case.get("connections"):
            endpoints[key] = await serving(accepting(**case.get("settings", {})), path=case.get("path"))
        where = endpoints[key].host, endpoints[key].port
        for _ in range(case.get("connections", 0)):
            assert " 101 " in await (await stack.enter_async_context(RawPeer.connect(*where))).upgrade()
        async with RawPeer.connect(*where) as peer:
            status, headers = await peer.answer(content(case["request"]))
        expected[name] = case["status"], case.get("headers", {})
        found[name] = (
            status,
            {
                field: field in headers if asked is True else headers.get(field)
                for field, asked in case.get("headers", {}).items()
            },
        )
    assert found == expected
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


@pytest.mark.parametrize("sent", ["", "GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_a_client_that_does_not_end_its_request_is_cut(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    monkeypatch.setattr(server_socket, "HANDSHAKE_TIMEOUT", 0.1)
    endpoint = await serving(Server())
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        peer.writer.write(sent.encode())
        async with asyncio.timeout(LIMIT):
            assert await peer.reader.read() == b""


async def test_a_client_that_ended_its_request_stays_after_the_deadline(
    serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_socket, "HANDSHAKE_TIMEOUT", 0.3)
    endpoint = await serving(describing()[0])
    peer = await join(endpoint, "1")
    async with RawPeer.connect(endpoint.host, endpoint.port) as silent, asyncio.timeout(LIMIT):
        assert await silent.reader.read() == b""  # a later connection reached its own deadline
    await peer.authenticate("1")
