"""Message sync where hints are lost, the backend is away, and clients read slowly."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Page, Read, Start
from mesa_ws.errors import BackendRefused, BackendUnavailable
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Position
from mesa_ws.server.connection import Connection

from .conftest import Joining, Serving
from .peer import LIMIT, RawPeer
from .sync import Flaky, data, numbers, send, storing, until


@pytest.mark.parametrize("wire", [1, 2])
async def test_a_lost_hint_is_noticed_by_the_next_message(serving: Serving, join: Joining, wire: int) -> None:
    backend = Flaky()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=wire)
    await send(server, 1)
    backend.is_deaf = True
    await send(server, 2, 3)
    await asyncio.sleep(0)
    backend.is_deaf = False
    await send(server, 4)
    frames = await peer.messages(4)
    assert (data(frames), numbers(frames)) == ([1, 2, 3, 4], [1, 2, 3, 4] if wire == 2 else [None] * 4)


@pytest.mark.parametrize("wire", [1, 2])
async def test_catching_up_brings_what_passed_by(serving: Serving, join: Joining, wire: int) -> None:
    backend = Flaky()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=wire)
    backend.is_deaf = True
    await send(server, 1, 2)
    await server.send(Message(0, 3, "ALL"))
    await asyncio.sleep(0)
    backend.is_deaf = False
    await server.catch_up()
    assert data(await peer.messages(3)) == [1, 2, 3]


async def test_catching_up_says_that_the_backend_is_away(serving: Serving, join: Joining) -> None:
    backend = Flaky()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1")
    backend.is_deaf = True
    await send(server, 1)
    await asyncio.sleep(0)
    backend.is_deaf, backend.is_away = False, True
    with pytest.raises(BackendUnavailable):
        await server.catch_up()
    backend.is_away = False
    assert data(await peer.messages(1)) == [1]


async def test_reading_goes_on_when_the_backend_is_back(serving: Serving, join: Joining) -> None:
    backend = Flaky()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1")
    backend.is_deaf = True
    await send(server, 1)
    await asyncio.sleep(0)
    backend.is_deaf, backend.is_away = False, True
    await send(server, 2)
    await until(lambda: backend.attempts > 1)
    backend.is_away = False
    await send(server, 3)
    assert data(await peer.messages(3)) == [1, 2, 3]


async def test_messages_to_everybody_that_passed_by_are_brought_to_all(
    serving: Serving, join: Joining
) -> None:
    backend = Flaky()
    server = storing(backend)
    endpoint = await serving(server)
    anonymous, first, second = [await join(endpoint) for _ in range(3)]
    await anonymous.until(op=10)
    await first.log_in("1")
    await second.log_in("2", wire=2)
    backend.is_deaf = True
    await server.send(Message(0, 1, "ALL"))
    await server.send(Message(0, 2, "ALL"), excluding=["1"])
    await asyncio.sleep(0)
    backend.is_deaf = False
    await server.send(Message(0, 3, "ALL"))
    assert data(await anonymous.messages(3)) == [1, 2, 3]
    assert data(await first.messages(2)) == [1, 3]
    assert data(await second.messages(3)) == [1, 2, 3]


BIG = "x" * 20_000


@pytest.mark.parametrize("wire", [1, 2])
async def test_a_slow_reader_of_stored_messages_costs_bounded_memory_and_gets_all(
    serving: Serving, join: Joining, wire: int
) -> None:
    server = storing(sync={"enabled": True, "max_messages": 10_000, "max_bytes": 100_000_000})
    endpoint = await serving(server)
    peer = await join(endpoint, max_queue=1)
    await peer.log_in("1", wire=wire)
    (connection,) = server.connections
    most = 0
    for n in range(1000):
        await server.send(Message(0, [n, BIG], "N"), ["1"])
        if n % 100 == 50:
            await server.send(Message(0, [n + 0.5, BIG], "N", sync=False), ["1"])
        await asyncio.sleep(0)
        most = max(most, connection._transport.buffered)
    assert most < 2_000_000
    expected = sorted([*range(1000), *(n + 0.5 for n in range(50, 1000, 100))])
    found: list[float] = []
    async with asyncio.timeout(LIMIT):
        while len(found) < len(expected):
            for frame in await peer.messages(1):
                found.append(frame["d"][0])
                if wire == 2 and "s" in frame and frame["s"] % 64 == 0:
                    assert connection.subscription is not None
                    await peer.acknowledge(connection.subscription.outbox.epoch, frame["s"])
    assert found == expected


async def test_a_reader_that_never_reads_what_is_not_stored_is_given_up(serving: Serving) -> None:
    server = storing(limits={"max_buffered": 200_000})
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port, limit=1024) as slow:
        await slow.upgrade()
        await slow.frame(0x1, b'{"op":2,"d":{"id":"1"}}')
        await until(lambda: "1" in server.fanout.by_id)
        async with asyncio.timeout(LIMIT):
            while server.connections:
                await server.send(Message(0, BIG, sync=False), ["1"])
                await asyncio.sleep(0)


async def test_what_waits_for_a_slow_reader_is_written_before_a_close(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    peer = await join(await serving(server), max_queue=1)
    await peer.log_in("1")
    (connection,) = server.connections
    for n in range(100):
        connection.send(Message(0, [n, BIG * 3], "N"))
    connection.disconnect(4321)
    assert [frame["d"][0] for frame in await peer.messages(100)] == list(range(100))
    assert await peer.closed() == 4321


async def test_many_missed_messages_to_everybody_are_resumed(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    await peer.socket.close()
    await until(lambda: not server.connections)
    for n in range(600):
        await server.send(Message(0, n, "ALL"))
    again = await join(endpoint)
    await again.log_in("1", wire=2, resume={"b": {"e": x["b"]["e"], "s": x["b"]["s"]}})
    await server.send(Message(0, 600, "ALL"))
    await send(server, 601)
    frames = await again.messages(602)
    assert sorted(data(frames)) == list(range(602))
    assert [n for n in data(frames) if n != 601] == list(range(601))


async def test_an_id_that_the_backend_refuses_keeps_nobody_else_waiting(
    serving: Serving, join: Joining
) -> None:
    class Broken(Flaky):
        async def read(self, reads: Sequence[Read]) -> list[Page]:
            if any(read.id == "bad" for read in reads):
                raise BackendRefused("no such outbox")
            return await super().read(reads)

    backend = Broken()
    server = storing(backend)
    endpoint = await serving(server)
    bad, good = await join(endpoint), await join(endpoint)
    await bad.log_in("bad")
    await good.log_in("good")
    backend.is_deaf = True
    await server.send(Message(0, 1, "N"), ["bad", "good"])
    await asyncio.sleep(0)
    backend.is_deaf = False
    await server.send(Message(0, 2, "N"), ["bad", "good"])
    assert data(await good.messages(2)) == [1, 2]
    assert await bad.closed() == 1013


class Unread(Flaky):
    """Tells where messages to everybody are, but gives no outboxes while it is away."""

    async def broadcasts(self, position: Position | None) -> Page:
        return await MemoryBackend.broadcasts(self, position)


async def test_catching_up_waits_for_every_outbox(serving: Serving, join: Joining) -> None:
    backend = Unread()
    server = storing(backend)
    await (await join(await serving(server))).log_in("1")
    backend.is_away = True
    with pytest.raises(BackendUnavailable):
        await server.catch_up()


async def test_what_waits_for_the_backend_is_bounded(serving: Serving, join: Joining) -> None:
    backend = Unread()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1")
    backend.is_deaf = True
    await send(server, 1)
    await asyncio.sleep(0)
    backend.is_deaf, backend.is_away = False, True
    await send(server, 2)
    for _ in range(100):
        await server.send(Message(0, BIG, sync=False), ["1"])
    assert await peer.closed() == 4000


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("turns", range(5))
async def test_a_client_that_says_it_sends_no_more_gets_no_holes(serving: Serving, turns: int) -> None:
    """Of what is written while its connection ends, large frames are dropped and small ones sent."""
    server = storing()
    endpoint = await serving(server)
    reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    writer.write(UPGRADE)
    await reader.readuntil(b"\r\n\r\n")
    question = b'{"op":2,"d":{"id":"1"}}'
    writer.write(bytes([0x81, 0x80 | len(question), 0, 0, 0, 0]) + question)
    await reader.readuntil(b'{"op":22,"d":{"id":"1"}}')
    writer.write_eof()
    for _ in range(turns):
        await asyncio.sleep(0)
    for number in range(6):
        await server.send(Message(0, "x" * (10 if number % 2 else 30_000), str(number)), ["1"])
    async with asyncio.timeout(LIMIT):
        received = re.findall(rb'"t":"(\d)"', await reader.read())
    writer.close()
    assert received == [b"%d" % number for number in range(len(received))]


@pytest.mark.parametrize("pages", [None, [], [None]])
async def test_a_client_whose_outbox_cannot_be_read_does_not_wait_for_ever(
    serving: Serving, join: Joining, pages: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(Flaky):
        async def read(self, reads: Sequence[Read]) -> list[Page]:
            if pages is None:
                raise RuntimeError("wrong")
            return cast("list[Page]", pages)

    backend = Wrong()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1")
    backend.is_deaf = True
    await send(server, 1)
    await asyncio.sleep(0)
    backend.is_deaf = False
    await send(server, 2)
    assert await peer.closed() == 1013
    assert "ERROR" in [record.levelname for record in caplog.records]


async def test_a_client_whose_login_meets_a_bug_does_not_wait_for_ever(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong(MemoryBackend):
        async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
            raise RuntimeError("wrong")

    peer = await join(await serving(storing(Wrong())))
    await peer.raw('{"op":2,"d":{"id":"1"}}')
    assert await peer.closed() == 1011
    assert "a bug in the server ended" in caplog.text


PING_FRAME = (0x9, b"?" * 125)
PROBE_FRAME = (0x1, b'{"op":1,"x":{"r":"7"}}')


@pytest.mark.native("what waits in a socket")
@pytest.mark.parametrize("question", [PING_FRAME, PROBE_FRAME], ids=["Ping", "probe"])
async def test_a_client_may_ask_for_a_sign_of_life_while_a_large_message_is_on_its_way(
    serving: Serving, question: tuple[int, bytes]
) -> None:
    """Or it would come back, get the same message, ask again, and never have it."""
    server = storing(sync={"enabled": True, "max_bytes": 50_000_000}, limits={"max_buffered": 100_000})
    endpoint = await serving(server)
    await server.send(Message(0, "x" * 20_000_000, "N"), ["1"])
    async with RawPeer.connect(endpoint.host, endpoint.port, limit=1024) as slow:
        await slow.upgrade()
        await slow.frame(0x1, b'{"op":2,"d":{"id":"1"},"x":{"v":2}}')
        await until(lambda: any(each._transport.buffered > 100_000 for each in server.connections))
        for _ in range(3):
            await slow.frame(*question)
        await slow.frame(0x1, b'{"op":0,"t":"LAST"}')
        handled = list[str | None]()
        server.on_message(lambda message, connection: handled.append(message.type))
        await until(lambda: handled == ["LAST"] or not server.connections)
        (connection,) = server.connections
        buffered, most = connection._transport.buffered, 0
        if question is PING_FRAME:  # only the newest of them is answered, when the client reads
            for _ in range(10_000):
                await slow.frame(*question)
            await slow.frame(0x1, b'{"op":0,"t":"AFTER"}')
            await until(lambda: handled == ["LAST", "AFTER"])
            assert connection._transport.buffered <= buffered
            return
        with suppress(ConnectionError):
            async with asyncio.timeout(LIMIT):
                while server.connections:
                    for _ in range(100):
                        await slow.frame(*question)
                    most = max(most, connection._transport.buffered)
        assert buffered < most < buffered + 200_000, "answers count all the same"


@pytest.mark.parametrize(
    ("kind", "wire"),
    [("stored", 1), ("stored", 2), ("live", 1), ("ALL", 1), ("ALL", 2), ("request", 2), ("disconnect", 1)],
)
async def test_connections_that_cannot_be_written_to_keep_nothing_from_the_others(
    serving: Serving,
    join: Joining,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    wire: int,
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("broken")

    server = storing()
    endpoint = await serving(server)
    peers = [await join(endpoint) for _ in range(4)]
    for peer in peers:
        await peer.log_in("1", wire=wire)
    broken = server.fanout.by_id["1"][:2]
    disconnect = Connection.disconnect
    monkeypatch.setattr(
        Connection, "disconnect", lambda self, *code: (fail if self in broken else disconnect)(self, *code)
    )
    for connection in broken:
        connection.send_queue.put = connection.send_queue.write = fail
        connection.send_queue.write_joined = fail
    asking = asyncio.create_task(server.request("1", Message(0, 1))) if kind == "request" else None
    if kind == "disconnect":
        await server.bus.dispatch([prepare(DispatchEvent("DISCONNECT_CLIENT"), ["1"])])
    elif kind == "ALL":
        await server.send(Message(0, 1, "ALL"))
    elif kind != "request":
        await send(server, 1, sync=kind == "stored")
    if kind == "disconnect":
        assert [await peer.closed() for peer in peers] == [1013, 1013, 1000, 1000]
    else:
        assert [data(await peer.messages(1)) for peer in peers[2:]] == [[1], [1]]
        assert asking is not None or [await peer.closed() for peer in peers[:2]] == [1013, 1013]
    assert caplog.text.count("could not be written to") == 1, "once in full, and counted"
    if asking is not None:
        asking.cancel()
