"""What strangers cause is logged once in full for each kind, and counted: however much they send."""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from bench.attacks.neighbour import connected
from bench.wire import frame
from mesa_ws import AsyncDispatcher, Connection, Message, Server, User, serve
from mesa_ws.http_server.server import DispatchApi
from mesa_ws.server.send_queue import PeerState
from tests.system.server.peer import LIMIT, Peer, RawPeer

TIMES = 20
"""How often a stranger does the same."""

COUNT = f"{TIMES - 1} more like this in the last minute: "


def strict(*place: str, **options: Any) -> Server:
    """Return a server whose authenticator trips over authentication data that it does not expect."""
    server = Server(*place, **options)

    @server.authenticator
    async def authenticate(data: Any, _: Connection) -> User | None:
        return None if data["id"] == "bad" else User(data["id"])

    @server.on_message
    async def divide(message: Message, _: Connection) -> float:
        return float(1 / message.data)

    return server


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def kinds(log: pytest.LogCaptureFixture) -> Counter[str]:
    """Count the lines of strangers by their first three words."""
    lines = [record.getMessage() for record in log.records]
    return Counter(" ".join(line.split()[:3]) for line in lines if not line.startswith("node "))


@pytest.mark.parametrize(
    ("text", "code", "lines"),
    [
        ("no frame", 1007, {"closing <Connection id=None": 1}),
        ('{"op":2,"d":{"id":"bad"}}', 1008, {"closing <Connection id=None": 1}),
        ('{"op":2}', 1011, {"the authenticator failed;": 1, "closing <Connection id=None": 1}),
    ],
)
async def test_frames_of_a_stranger_are_summed_up(
    log: pytest.LogCaptureFixture, text: str, code: int, lines: dict[str, int]
) -> None:
    async with serve(strict()) as endpoint:
        for _ in range(TIMES):
            async with Peer.connect(endpoint.url) as peer:
                await peer.raw(text)
                assert await peer.closed() == code
        assert kinds(log) == lines
        assert len([record for record in log.records if record.exc_info]) == (code == 1011)
        log.clear()
    assert kinds(log) == {"19 more like": len(lines)}
    assert all(line.startswith(COUNT) for line in log.messages[:-1])


async def test_a_handler_that_messages_trip_is_named_once_for_each_error(
    log: pytest.LogCaptureFixture,
) -> None:
    async with serve(strict()) as endpoint, Peer.connect(endpoint.url) as peer:
        await peer.authenticate("7")
        for _ in range(TIMES):
            await peer.send("T", 0)
            await peer.send("T", "text")
        await peer.raw('{"op":0,"d":1,"t":"LAST","x":{"v":2,"r":"1"}}')
        async with asyncio.timeout(LIMIT):
            while len(log.records) < 3:
                await asyncio.sleep(0.01)
        log.clear()
        await peer.send("T", 0)
        await peer.authenticate("7")  # after what was handled before it
        assert not log.records
    counted = [line.rpartition(" ")[0].split(": ")[0] for line in log.messages if " more like" in line]
    assert counted == ["20 more like this in the last minute", "19 more like this in the last minute"]


@pytest.mark.parametrize(("channels", "number"), [("native", 1), ("mesa1", 2)])
async def test_bytes_on_the_bus_that_are_no_frames_are_summed_up(
    log: pytest.LogCaptureFixture, redis_url: str, namespace: str, channels: Any, number: int
) -> None:
    async with AsyncExitStack() as stack:
        server = strict(redis_url, namespace=namespace, wire=channels)
        endpoint = await stack.enter_async_context(serve(server))
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.authenticate("7")
        async with redis.asyncio.from_url(redis_url) as attacker:
            for _ in range(TIMES):
                for name in await attacker.pubsub_channels("*"):
                    if namespace.encode() in name:
                        await attacker.publish(name, b"\0\0\0\x10" + b"\x91" * 100_000)
        async with AsyncDispatcher(redis_url, namespace=namespace, wire=channels) as dispatcher:
            await dispatcher.dispatch(Message(0, 1, "T"), ["7"])
        assert (await peer.until(t="T"))["d"] == 1
        assert kinds(log)["ignored 100004 bytes"] == number
        log.clear()
    assert [line.partition(": ")[0] for line in log.messages if "ignored" in line] == [
        line.partition(": ")[0] for line in log.messages if " more like this" in line
    ]
    assert any("ignored 100004 bytes" in line for line in log.messages)


async def test_strangers_of_the_dispatch_api_are_summed_up(log: pytest.LogCaptureFixture) -> None:
    server = strict()
    async with serve(server), DispatchApi(server, key="0123456789abcdef", port=0) as api:
        port = int(api.url.rpartition(":")[2])
        for _ in range(TIMES):
            async with RawPeer.connect("127.0.0.1", port) as peer:
                assert " 400 " in await peer.request("no request")
            async with RawPeer.connect("127.0.0.1", port) as peer:
                await peer.upgrade()
        assert (kinds(log)["Invalid HTTP request"], kinds(log)["the dispatch API"]) == (1, 1)
        log.clear()
    assert len([line for line in log.messages if line.startswith(COUNT)]) == 2


@pytest.mark.parametrize("tls", [True, False], ids=["TLS", "plain"])
async def test_nothing_is_written_to_a_client_that_has_gone(
    log: pytest.LogCaptureFixture, certificate: Path, *, tls: bool
) -> None:
    """Each write would be a line of the log of aiofastnet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server, gone = Server(), asyncio.Event()

    @server.on_message
    async def leave(_: Message, connection: Connection) -> None:
        client.close()
        transport: Any = connection.send_queue._transport
        assert transport.peer_state() is PeerState.GONE
        for number in range(50):
            connection.send(Message(0, number, "T"))
            transport.ping(b"")
        assert connection.is_open  # it learns of its end later
        gone.set()

    async with asyncio.timeout(LIMIT), serve(server, ssl=context if tls else None) as endpoint:
        client = await asyncio.to_thread(connected, endpoint.port, tls=tls)
        client.sendall(frame(b'{"op":0}'))
        await gone.wait()
        while server.connections:
            await asyncio.sleep(0.01)
    assert [record.getMessage() for record in log.records if record.levelno >= logging.WARNING] == []
