"""The dispatch API on the port of the WebSockets."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.dispatcher import AsyncDispatcher
from mesa_ws.errors import MesaError
from mesa_ws.http_server.keys import ApiKeys
from mesa_ws.http_server.server import ApiLimits, DispatchApi
from mesa_ws.http_server.strangers import Strangers
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.transports.run import Endpoint, Server, serve
from tests.certificates import make_certificate, server_side
from tests.http_site import KEY
from tests.system.server.peer import LIMIT, Peer

UPGRADE = (
    b"GET /anything HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class HttpPeer:
    """A TCP client that reads answers one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self.writer.write(request)
        async with asyncio.timeout(LIMIT):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
            size = head.partition("content-length: ")[2].partition("\r")[0]
            return int(head.split()[1]), await self.reader.readexactly(int(size or 0))

    async def get(self, path: str, key: str | None = KEY) -> tuple[int, bytes]:
        extra = f"Authorization: Bearer {key}\r\n" if key else ""
        return await self.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n".encode())

    async def ended(self) -> bool:
        async with asyncio.timeout(LIMIT):
            return await self.reader.read() == b""


class Port:
    """A server with its API on one port, and peers until the test ends."""

    def __init__(self, endpoint: Endpoint, api: DispatchApi, tls: ssl.SSLContext | None = None) -> None:
        self.endpoint, self.api, self.tls = endpoint, api, tls
        self.stack = AsyncExitStack()

    async def peer(self) -> HttpPeer:
        where = self.endpoint.host, self.endpoint.port
        reader, writer = await asyncio.open_connection(*where, ssl=self.tls)
        self.stack.callback(writer.close)
        return HttpPeer(reader, writer)


def accepting(**options: Any) -> Server:
    server = Server(**options)

    @server.authenticator
    async def authenticate(data: dict[str, str], _: object) -> User:
        return User(data["id"])

    return server


@pytest.fixture(params=["plain", "tls"])
async def port(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Port]:
    server, inside, outside = accepting(), None, None
    if request.param == "tls":
        inside = server_side(make_certificate(tmp_path / "certificate.pem"))
        outside = ssl.create_default_context()
        outside.check_hostname, outside.verify_mode = False, ssl.CERT_NONE
    api = DispatchApi(server, key=KEY, port=None, limits=ApiLimits(max_connections=3, body_timeout=2 * LIMIT))
    async with serve(server, "127.0.0.1", 0, api, ssl=inside) as endpoint:
        port = Port(endpoint, api, outside)
        async with port.stack:
            yield port


async def test_paths_tell_what_a_request_is_for(port: Port) -> None:
    peer = await port.peer()
    answers = [await peer.get(path) for path in ("/health/live", "/health/ready", "/v1/nothing")]
    assert [status for status, _ in answers] == [200, 200, 404]
    dispatch = b'{"message":{"op":0,"d":1,"t":"T"},"recipients":["1"]}'
    head = f"POST {DISPATCH.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(dispatch)}\r\n"
    assert (await (await port.peer()).ask(head.encode() + b"\r\n" + dispatch))[0] == 401
    known = f"{head}Authorization: Bearer {KEY}\r\nUpgrade: h2c\r\n\r\n".encode()
    status, receipts = await peer.ask(known + dispatch)
    assert (status, type(json.loads(receipts))) == (200, dict), "another upgrade is none that is asked of us"
    for path, expected in (("/mesa.js", 200), ("/", 426), ("/v2", 426)):
        assert (await (await port.peer()).get(path))[0] == expected, path


async def test_a_connection_that_was_used_for_requests_becomes_a_websocket(port: Port) -> None:
    peer = await port.peer()
    for _ in range(2):
        assert (await peer.get("/health/live"))[0] == 200
    assert (await peer.ask(UPGRADE))[0] == 101
    async with asyncio.timeout(LIMIT):
        first, size = await peer.reader.readexactly(2)
        assert (first, json.loads(await peer.reader.readexactly(size))["op"]) == (0x81, 10)
    again = await port.peer()
    assert (await again.ask(UPGRADE.replace(b"/anything", b"/v1/anything")))[0] == 101
    others = [await port.peer() for _ in range(3)]
    assert [(await other.get("/health/live"))[0] for other in others] == [200] * 3, "its place is free"


async def test_each_request_of_a_connection_is_for_what_its_path_says(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    for path, expected in (("/mesa.js", 200), ("/%761/dispatch", 426)):
        peer = await port.peer()
        assert [(await peer.get(each))[0] for each in ("/health/live", path)] == [200, expected], path
    peer = await port.peer()
    await peer.get("/health/live")
    long = UPGRADE[:-2] + b"a:\r\n" * 15_000 + b"\r\n"
    peer.writer.write(long)
    async with asyncio.timeout(LIMIT):
        answer = await peer.reader.read()
    assert answer[:12] in {b"", b"HTTP/1.1 400"}, "as a first request of that length, or by its first part"
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == []


async def test_a_websocket_has_no_deadline_of_the_requests_before_it() -> None:
    server = accepting()
    api = DispatchApi(server, key=KEY, port=None, limits=ApiLimits(head_timeout=0.1, body_timeout=0.1))
    async with serve(server, "127.0.0.1", 0, api) as endpoint, AsyncExitStack() as stack:
        peer = HttpPeer(*await asyncio.open_connection(endpoint.host, endpoint.port))
        stack.callback(peer.writer.close)
        assert [(await peer.get("/health/live"))[0], (await peer.ask(UPGRADE))[0]] == [200, 101]
        _, size = await peer.reader.readexactly(2)
        await peer.reader.readexactly(size)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(peer.reader.read(1), 0.5)
        assert len(server.connections) == 1


async def test_connections_beyond_the_limit_are_answered(
    port: Port, caplog: pytest.LogCaptureFixture
) -> None:
    kept = [await port.peer() for _ in range(3)]
    assert [(await peer.get("/health/live"))[0] for peer in kept] == [200] * 3
    refused = await port.peer()
    assert (await refused.get("/health/live"))[0] == 503
    assert await refused.ended()
    kept[0].writer.close()
    await kept[0].writer.wait_closed()
    async with asyncio.timeout(LIMIT):
        while (await (await port.peer()).get("/health/live"))[0] != 200:
            await asyncio.sleep(0.01)
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR] == []


async def test_a_connection_is_kept_for_those_with_a_key_alone(port: Port) -> None:
    large = b"x" * 4_000_000
    post = f"POST {DISPATCH.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(large)}\r\n\r\n".encode()
    for path, key, expected in (
        ("/health/live", None, 200),
        ("/metrics", None, 401),
        ("/metrics", "another key of sixteen", 401),
        ("/v1/nothing", None, 404),
    ):
        peer = await port.peer()
        assert [(await peer.get("/metrics"))[0], (await peer.get(path, key))[0]] == [200, expected]
        assert await peer.ended(), path
    peer = await port.peer()
    assert (await peer.ask(post + large))[0] == 401, "which no reset overtakes"
    assert await peer.ended()
    last = await port.peer()
    async with asyncio.timeout(LIMIT):
        while b"mesa_api_connections 1.0" not in (await last.get("/metrics"))[1]:
            await asyncio.sleep(0.01)


async def test_strangers_of_one_address_leave_places_to_dispatchers() -> None:
    server = accepting(limits={"max_unauthenticated_per_address": 2, "exempt_networks": None})
    api = DispatchApi(server, key=KEY, port=None, limits=ApiLimits(max_connections=4))
    slow = f"POST {DISPATCH.path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
    async with serve(server, "127.0.0.1", 0, api) as endpoint:
        port = Port(endpoint, api)
        async with port.stack:
            first, second = await port.peer(), await port.peer()
            for peer in (first, second):
                peer.writer.write(slow)
            limits = server.connection_limits
            async with asyncio.timeout(LIMIT):
                while limits.admit(port, "127.0.0.1"):
                    limits.left(port)
                    await asyncio.sleep(0.01)
            third = await port.peer()
            third.writer.write(slow)
            async with asyncio.timeout(LIMIT):
                answer = (await third.reader.read()).lower()
            assert answer.startswith(b"http/1.1 503")
            assert b"\r\nretry-after: " in answer
            assert b"\r\nconnection: close\r\n" in answer
            assert limits.refused["max_unauthenticated_per_address"] == 2, "that, and the look above"
            async with AsyncDispatcher(api.url, key=KEY) as dispatcher:
                await dispatcher.dispatch(Message(0, 1, "N"), ["1"])
            assert [(await first.ask(b"x" * 9))[0], await first.ended()] == [401, True]
            again = await port.peer()
            assert (await again.get("/health/live", None))[0] == 200, "the place of the first is free"
            assert (await again.ended(), limits.refused.total()) == (True, 2)
            taken_back = await port.peer()
            assert [(await taken_back.get("/health/live"))[0], (await taken_back.ask(UPGRADE))[0]] == [
                200,
                101,
            ]


async def test_a_stranger_is_the_client_that_a_trusted_proxy_names() -> None:
    server = accepting(
        limits={"max_unauthenticated_per_address": 1, "exempt_networks": None},
        trusted_proxies=["127.0.0.0/8"],
    )
    strangers = Strangers(server, ApiKeys(KEY))
    proxy = "127.0.0.1", 1
    clients = [(b"x-forwarded-for", f"203.0.113.{n}".encode()) for n in (1, 2, 1)]
    assert [strangers.admit(field, proxy, [field]) for field in clients[:2]] == [True, True]
    assert [strangers.admit(object(), proxy, [clients[2]]), strangers.admit(proxy, None, [])] == [False, True]


async def test_a_dispatcher_reaches_a_client_by_one_address() -> None:
    server = accepting()
    api = DispatchApi(server, key=KEY, port=None)
    async with serve(server, "127.0.0.1", 0, api) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.authenticate("1")
        assert api.url == f"http://127.0.0.1:{endpoint.port}"
        async with AsyncDispatcher(api.url, key=KEY) as dispatcher:
            for number in range(3):
                receipt = await dispatcher.dispatch(Message(0, number, "N"), ["1"])
                assert receipt.deliveries["1"].online == 1
        assert [frame["d"] for frame in await peer.messages(3)] == [0, 1, 2]


@pytest.mark.parametrize(("host", "has_tls"), [("0.0.0.0", False), ("0.0.0.0", True), ("127.0.0.1", False)])
async def test_plain_http_for_other_machines_is_warned_of(
    host: str, has_tls: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = accepting()
    inside = server_side(make_certificate(tmp_path / "certificate.pem")) if has_tls else None
    async with serve(server, host, 0, DispatchApi(server, key=KEY, port=None), ssl=inside):
        pass
    warned = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
    named = [line.partition(" over plain HTTP: ")[0] for line in warned]
    is_open = host == "0.0.0.0" and not has_tls
    assert named == ([f"the dispatch API listens on {host}"] if is_open else [])


async def test_there_is_no_api_without_a_port_and_no_second_one() -> None:
    server = accepting()
    with pytest.raises(MesaError, match="expected a server with a port"):
        async with DispatchApi(server, key=KEY, port=None):
            pass
    async with serve(server, "127.0.0.1", 0, DispatchApi(server, key=KEY, port=None)):
        with pytest.raises(MesaError, match="expected one API"):
            async with DispatchApi(server, key=KEY, port=None):
                pass
    assert server.other_requests is None
