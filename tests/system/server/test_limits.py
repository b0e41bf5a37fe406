"""Limits of one connection: slow readers, floods, dead peers."""

import asyncio

import pytest

from mesa_ws import Server
from mesa_ws.concurrency import turns
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from mesa_ws.protocol.server import ServerProtocol
from mesa_ws.server.connection import Connection
from mesa_ws.server.subscription import Subscription
from mesa_ws.transports.frame_feed import FRAMES_AT_ONCE
from mesa_ws.transports.server_socket import NativeTransport
from tests.system.waiting import until

from .conftest import Joining, Serving, accepting
from .peer import LIMIT, RawPeer

MIB = 1024 * 1024


async def test_a_slow_reader_is_given_up_and_others_go_on(serving: Serving, join: Joining) -> None:
    server = accepting(limits={"max_buffered": 100_000})
    codes: asyncio.Queue[int] = asyncio.Queue()

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        codes.put_nowait(code)

    endpoint = await serving(server)
    reading = await join(endpoint, "1")
    async with RawPeer.connect(endpoint.host, endpoint.port, limit=1024) as slow:
        await slow.upgrade()
        sent = 0
        async with asyncio.timeout(LIMIT):
            while codes.empty():
                await server.send(Message(0, "x" * 50_000, "BIG"))
                sent += 1
                await reading.until(t="BIG")
        assert codes.get_nowait() == 4000
    assert server.slow_readers.closed == {"max_buffered": 1}
    assert len(server.connections) == 1
    assert len([frame for frame in reading.frames if frame.get("t") == "BIG"]) == sent


async def test_a_connection_that_ends_in_a_delivery_hides_no_other_of_its_id(
    serving: Serving, join: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = accepting(sync=True)
    endpoint = await serving(server)
    ending, *others = [await join(endpoint, "1") for _ in range(3)]
    first = server.fanout.by_id["1"][0]
    deliver = Subscription.deliver

    def end_first(subscription: Subscription, position: Position, payload: bytes) -> None:
        if subscription is first.subscription:
            first.disconnect(1000)
        else:
            deliver(subscription, position, payload)

    monkeypatch.setattr(Subscription, "deliver", end_first)
    await server.send(Message(0, 1, "LAST"), ["1"])
    assert await ending.closed() == 1000
    for peer in others:
        await peer.until(t="LAST")


async def test_a_reader_that_pauses_within_the_limit_loses_nothing(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    for n in range(60):
        await server.send(Message(0, [n, "x" * 50_000]), ["1"])
    await asyncio.sleep(0)
    assert [(await peer.until(op=0))["d"][0] for _ in range(60)] == list(range(60))


async def test_a_message_over_the_limit_closes_1009(serving: Serving, join: Joining) -> None:
    peer = await join(await serving(Server(limits={"max_message": 1000})))  # guests have a limit of their own
    await peer.send("BIG", "x" * 1000)
    assert await peer.closed() == 1009


@pytest.mark.native("fragments")
@pytest.mark.parametrize("sizes", [[600, 600], [1] * 4])
async def test_fragments_over_a_limit_close_1009(serving: Serving, sizes: list[int]) -> None:
    endpoint = await serving(Server(limits={"max_message": 1000, "max_fragments": 4}))
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        for number, size in enumerate(sizes):
            await peer.frame(0x0 if number else 0x1, b"x" * size, fin=False)
        assert int.from_bytes((await peer.close_frame())[:2]) == 1009


async def test_a_flood_pauses_reading_and_is_handled_completely(serving: Serving, join: Joining) -> None:
    server = accepting(limits={"max_queued": 4}, keepalive={"interval": 0.05, "timeout": 0.05})
    gate = asyncio.Event()
    handled: list[int] = []

    @server.on_message("N")
    async def handle(message: Message, connection: Connection) -> None:
        await gate.wait()
        handled.append(message.data)
        if message.data == 999:
            connection.send(Message(0, None, "DONE"))

    peer = await join(await serving(server))
    flood = asyncio.create_task(send_all(peer, 1000))
    # Long enough for the keepalive to give up a client that is silent by its own fault.
    await asyncio.sleep(0.3)
    gate.set()
    await peer.until(t="DONE")
    await flood
    assert handled == list(range(1000))


async def send_all(peer: object, count: int) -> None:
    for n in range(count):
        await peer.send("N", n)  # type: ignore[attr-defined]


@pytest.mark.native("Pings")
async def test_a_silent_peer_is_pinged_and_kept_while_it_answers(serving: Serving, join: Joining) -> None:
    server = accepting(keepalive={"interval": 0.03, "timeout": 0.03}, authentication={"timeout": None})
    peer = await join(await serving(server))
    await peer.receive()
    await asyncio.sleep(0.3)
    await server.send(Message(0, "still here"))
    assert (await peer.until(op=0))["d"] == "still here"


async def test_a_dead_peer_is_found_without_heartbeats(serving: Serving) -> None:
    server = accepting(keepalive={"interval": 0.05, "timeout": 0.05}, authentication={"timeout": None})
    codes: asyncio.Queue[int] = asyncio.Queue()

    @server.on_disconnection
    async def ended(connection: Connection, code: int, reason: str) -> None:
        codes.put_nowait(code)

    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        async with asyncio.timeout(LIMIT):
            assert await codes.get() == 4001


@pytest.mark.native("Pings")
async def test_of_pings_that_a_client_sends_while_it_does_not_read_the_newest_is_answered(
    serving: Serving,
) -> None:
    server = accepting(limits={"max_buffered": 64 * MIB}, keepalive=False)
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port, limit=1024) as peer, asyncio.timeout(LIMIT):
        await peer.upgrade()
        (connection,) = server.connections
        assert isinstance(connection._transport, NativeTransport)
        connection.send(Message(0, "x" * 12 * MIB))
        waiting = connection._transport.buffered
        for number in range(10_000):
            await peer.frame(0x9, b"%d" % number)
        await peer.frame(0x1, b'{"op":1,"x":{"r":"7"}}')
        await until(lambda: connection._transport.buffered > waiting)
        assert waiting < connection._transport.buffered < waiting + 100
        frames = [await peer.read_frame() for _ in range(4)]
    assert [opcode for opcode, _ in frames] == [0x1, 0x1, 0x1, 0xA]
    assert frames[2:] == [(0x1, b'{"op":11,"d":{},"x":{"a":"7"}}'), (0xA, b"9999")]


@pytest.mark.native("the reading of the socket")
@pytest.mark.parametrize(
    "payload",
    [b'{"op":1,"x":{"r":"7"}}', b'{"op":11,"d":{}}', b'{"op":0,"t":"A"}'],
    ids=["probes", "answers to heartbeats", "messages"],
)
async def test_one_client_that_floods_leaves_others_their_turns(
    serving: Serving, monkeypatch: pytest.MonkeyPatch, payload: bytes
) -> None:
    """A loop that handles all that has come of one client at once stands still for everything else."""
    count, receive = 0, ServerProtocol.receive

    def counted(protocol: ServerProtocol, frame: bytes, now: float) -> object:
        nonlocal count
        count += 1
        return receive(protocol, frame, now)

    monkeypatch.setattr(ServerProtocol, "receive", counted)
    endpoint = await serving(accepting(authentication={"timeout": None}))
    flood, most = 60_000, 0
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        peer.writer.write((bytes([0x81, 0x80 | len(payload)]) + bytes(4) + payload) * flood)
        async with asyncio.timeout(LIMIT):
            while count < flood:
                before = count
                await asyncio.sleep(0)
                most = max(most, count - before)
    assert 0 < most <= 2 * FRAMES_AT_ONCE


async def test_a_client_that_floods_has_no_more_waiting_than_it_may_and_came_at_once(
    serving: Serving,
) -> None:
    server, go = accepting(), asyncio.Event()

    @server.on_message
    async def wait(message: Message, connection: Connection) -> None:
        await go.wait()

    payload, before = b'{"op":0,"t":"A"}', b'{"op":11,"d":{}}'
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        for each in (before, payload):
            peer.writer.write((bytes([0x81, 0x80 | len(each)]) + bytes(4) + each) * 40_000)
        (connection,) = server.connections
        await until(lambda: connection._flow is not None and connection._flow.is_paused)
        assert len(connection._events or ()) <= 64 + FRAMES_AT_ONCE
        go.set()


async def test_handlers_of_one_client_leave_others_their_turns(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue whose handlers do not wait is not worked off in one go."""
    server = accepting(limits={"guest_max_queued": 64})
    handled, go = list[int](), asyncio.Event()

    @server.on_message("FIRST")
    async def wait(message: Message, connection: Connection) -> None:
        await go.wait()

    @server.on_message("N")
    async def handle(message: Message, connection: Connection) -> None:
        handled.append(message.data)

    monkeypatch.setattr(turns, "TURN", 0.0)
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(1, b'{"op":0,"t":"FIRST"}')
        for number in range(50):
            await peer.frame(1, b'{"op":0,"d":%d,"t":"N"}' % number)
        (connection,) = server.connections
        await until(lambda: len(connection._events or ()) == 50)
        go.set()
        most = 0
        async with asyncio.timeout(LIMIT):
            while len(handled) < 50:
                before = len(handled)
                await asyncio.sleep(0)
                most = max(most, len(handled) - before)
    assert most == 1
    assert handled == list(range(50))
