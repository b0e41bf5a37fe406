"""Which answers of 1.x clients acknowledge messages, which do not, and when the server probes them."""

import asyncio

import pytest

from mesa_ws.messages.message import Message
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import serve

from .conftest import Joining, Serving
from .peer import LIMIT, RawPeer
from .sync import data, send, storing, unproven, until, until_unproven


async def test_nobody_is_asked_without_stored_messages(serving: Serving, join: Joining) -> None:
    server = storing(sync=False)
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1)
    await peer.messages(1)
    (connection,) = server.connections
    assert connection.subscription is not None
    assert not connection.subscription.is_watched


async def test_clients_of_wire_2_are_not_asked(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    first, second = await join(endpoint), await join(endpoint)
    await first.log_in("1", wire=2)
    await second.log_in("1")
    await send(server, 1)
    await second.answer()
    assert [frame["op"] for frame in first.frames if frame["op"] == 1] == []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await first.until(op=1)


async def test_a_close_proves_nothing(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1)
    await peer.messages(1)
    await peer.socket.close(1000)
    await until(lambda: not server.connections)
    assert await unproven(server) == 1


async def test_what_was_proven_is_told_at_once_when_the_connection_ends(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    peer = await join(await serving(server))
    x = await peer.log_in("1", wire=2)
    await send(server, 1)
    await peer.messages(1)
    await peer.acknowledge(x["e"], 1)
    await peer.socket.close()
    await until(lambda: not server.connections)
    assert await unproven(server) == 0


async def test_an_answer_to_nothing_makes_all_answers_worthless(serving: Serving, join: Joining) -> None:
    server = storing()

    @server.on_message("PING")
    async def pong(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    peer = await join(await serving(server))
    await peer.log_in("1")
    await peer.raw('{"op":11,"d":{}}')
    await peer.received("PING")
    await send(server, 1)
    await peer.raw('{"op":11,"d":{}}')
    await peer.received("PING")
    await peer.socket.close()
    await until(lambda: not server.connections)
    assert await unproven(server) == 1


async def test_heartbeats_prove_as_much(serving: Serving, join: Joining) -> None:
    server = storing(heartbeat={"enabled": True, "interval": 0.1, "max_attempts": 100})
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1)
    await peer.messages(1)
    while await unproven(server):
        await peer.answer()


@pytest.mark.native("Pings")
async def test_with_proof_ping_a_pong_proves(serving: Serving, join: Joining) -> None:
    server = storing(sync={"enabled": True, "proof": "ping"})
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1)
    await peer.messages(1)
    await until_unproven(server, 0)
    assert [frame["op"] for frame in peer.frames if frame["op"] == 1] == []


@pytest.mark.native("Pings")
async def test_a_pong_to_another_ping_proves_nothing(serving: Serving) -> None:
    server = storing(sync={"enabled": True, "proof": "ping"})
    endpoint = await serving(server)
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(0x1, b'{"op":2,"d":{"id":"1"}}')
        await until(lambda: "1" in server.fanout.by_id)
        await send(server, 1)
        payload = b""
        async with asyncio.timeout(LIMIT):
            while not payload:
                opcode, content = await peer.next_frame()
                payload = content if opcode == 9 else b""
        await peer.frame(0xA, b"7" + payload)
        await peer.frame(0x9, b"")
        assert await peer.next_frame() == (10, b"")
        assert await unproven(server) == 1
        await peer.frame(0xA, payload)
        await until_unproven(server, 0)


async def test_stopping_tells_what_was_proven_and_asks_wire_2_to_come_back(join: Joining) -> None:
    server = storing()
    async with serve(server) as endpoint:
        first, second = await join(endpoint), await join(endpoint)
        x = await first.log_in("1", wire=2)
        await second.log_in("2")
        await send(server, 1)
        await first.messages(1)
        await first.acknowledge(x["e"], 1)
        (subscription,) = [each.subscription for each in server.fanout.by_id["1"]]
        assert subscription is not None
        await until(lambda: subscription.outbox.acked == 1)
    assert [await first.closed(), await second.closed()] == [1001, 1001]
    [asked] = [frame["d"]["after"] for frame in first.frames if frame["op"] == 7]
    assert 0 <= asked <= 1
    assert [frame for frame in second.frames if frame["op"] == 7] == []
    assert await unproven(server) == 0


async def test_pauses_between_redelivered_messages_can_be_had(serving: Serving, join: Joining) -> None:
    server = storing(sync={"enabled": True, "redelivery_interval": 0.1})
    endpoint = await serving(server)
    await send(server, 1, 2, 3)
    peer = await join(endpoint)
    started = asyncio.get_running_loop().time()
    await peer.log_in("1")
    await send(server, 4)
    frames = await peer.messages(4)
    assert data(frames) == [1, 2, 3, 4]
    assert asyncio.get_running_loop().time() - started > 0.299  # whole milliseconds of uvloop


async def test_wire_2_gets_what_is_stored_without_pauses(serving: Serving, join: Joining) -> None:
    server = storing(sync={"enabled": True, "redelivery_interval": 600})
    endpoint = await serving(server)
    await send(server, 1, 2, 3)
    peer = await join(endpoint)
    await peer.log_in("1", wire=2)
    assert data(await peer.messages(3)) == [1, 2, 3]
