"""Faults of servers of 1.x on this wire that our servers do not have."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import (
    AsyncDispatcher,
    Connection,
    DispatchEvent,
    Endpoint,
    Message,
    Portal,
    PortalEvent,
    Server,
    User,
    serve,
)
from mesa_ws.backend.mesa1 import Mesa1Wire
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.messages.envelope import prepare
from mesa_ws.transports import server_socket
from tests.contract.storing import KEEP
from tests.interop.served import ServerProcess
from tests.system.server.conftest import Joining, Serving, accepting
from tests.system.server.peer import Peer, RawPeer
from tests.system.waiting import until

from .test_nodes import until_count, until_members

Redis = redis.asyncio.Redis


def make(redis_url: str, namespace: str, **options: Any) -> Server:
    return accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=True, **options)


@pytest.fixture
def server(redis_url: str, namespace: str) -> Server:
    return make(redis_url, namespace)


@pytest.fixture
async def endpoint(server: Server, serving: Serving) -> Endpoint:
    return await serving(server)


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True, wire="mesa1") as dispatcher:
        yield dispatcher


async def kept(client: Redis, keys: Mesa1Keys, id: str = "7") -> list[Any]:
    return [each["d"] for each in json.loads(await client.hget(keys.undelivered, id) or "[]")]


async def is_away(dispatcher: AsyncDispatcher, id: str) -> bool:
    return await dispatcher.presence.online([id]) == {id: 0}


# Stopping.


async def test_a_process_with_anonymous_clients_alone_stops_well(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys
) -> None:
    process = ServerProcess("--redis", redis_url, "--namespace", namespace, "--wire", "mesa1")
    await asyncio.to_thread(process.start)
    async with Peer.connect(process.url) as peer:
        await until_count(client, keys, 1)
        assert await asyncio.to_thread(process.stop) == 0
        assert await peer.closed() == 1001
    assert await client.get(keys.connections) == "0"
    assert not await client.exists(keys.connected)


async def test_a_server_that_stops_tells_portals_and_leaves_nothing(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys
) -> None:
    """Also where the portal is in the same process, and stops at the same moment."""
    told: list[tuple[str, str | None]] = []
    portal = Portal(redis_url, namespace=namespace, wire="mesa1")

    async def tell(event: PortalEvent) -> None:
        told.append((event.type, event.id))

    for register in (portal.on_connection, portal.on_authentication, portal.on_disconnection):
        register(tell)
    async with portal, AsyncExitStack() as stack:
        async with serve(make(redis_url, namespace, portals=True)) as endpoint:
            peer = await stack.enter_async_context(Peer.connect(endpoint.url))
            await peer.authenticate("1")
            await until(lambda: len(told) == 2)
        assert await peer.closed() == 1001
    assert told == [("connection", None), ("authentication", "1"), ("disconnection", "1")]
    assert await client.get(keys.connections) == "0"
    assert not await client.exists(keys.connected, keys.pool)


# Presence.


async def test_a_device_that_stays_keeps_its_id_online(
    endpoint: Endpoint,
    server: Server,
    join: Joining,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
) -> None:
    phone, laptop = await join(endpoint, "7"), await join(endpoint, "7")
    await phone.socket.close()
    await until(lambda: len(server.connections) == 1)
    await dispatcher.dispatch(Message(0, "dispatched"), ["7"])
    await server.send(Message(0, "sent"), ["7"])
    assert [each["d"] for each in await laptop.messages(2)] == ["dispatched", "sent"]
    assert await client.smembers(keys.connected) == {"7"}
    assert await kept(client, keys) == []


async def test_an_id_on_two_servers_outlives_one_of_them(
    redis_url: str,
    namespace: str,
    endpoint: Endpoint,
    join: Joining,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
) -> None:
    laptop = await join(endpoint, "7")
    async with serve(make(redis_url, namespace)) as other, Peer.connect(other.url) as phone:
        await phone.authenticate("7")
        await until_count(client, keys, 2)
    await dispatcher.dispatch(Message(0, "here"), ["7"])
    assert [each["d"] for each in await laptop.messages(1)] == ["here"]
    assert await client.smembers(keys.connected) == {"7"}
    assert await kept(client, keys) == []


async def test_after_everything_was_flushed_who_is_here_is_online_again(
    endpoint: Endpoint,
    server: Server,
    join: Joining,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
) -> None:
    """Redis notifies no server: the next heartbeat notices."""
    peer = await join(endpoint, "7")
    await until_count(client, keys, 1)
    await client.delete(*[key async for key in client.scan_iter(f"*{keys.namespace}*")])
    server.backend._node.on_doubt()  # type: ignore[attr-defined]
    await until_members(client, keys, "7")
    await dispatcher.dispatch(Message(0, "live"), ["7"])
    assert [each["d"] for each in await peer.messages(1)] == ["live"]
    await peer.socket.close()
    await until_count(client, keys, 0)
    await until_members(client, keys)


async def test_an_id_that_was_given_up_by_a_second_login_is_forgotten(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    peer = await join(endpoint, "1")
    await peer.authenticate("2")
    await until_members(client, keys, "2")
    await peer.socket.close()
    await until_members(client, keys)


async def test_who_leaves_while_it_logs_in_is_no_ghost_and_loses_nothing(
    redis_url: str, namespace: str, serving: Serving, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    server = Server(redis_url, namespace=namespace, wire="mesa1", sync=True)
    asked, answer = asyncio.Event(), asyncio.Event()

    @server.authenticator
    async def slowly(data: Any, connection: Connection) -> User:
        asked.set()
        await answer.wait()
        return User(data["id"])

    endpoint = await serving(server)
    await client.hset(keys.undelivered, "7", '[{"op":0,"d":"waits"}]')
    peer = await join(endpoint)
    await peer.send(data={"id": "7"}, op=2)
    await asked.wait()
    await peer.socket.close()
    await until(lambda: not server.connections)
    answer.set()
    other = await join(endpoint, "8")
    await until_members(client, keys, "8")
    assert await kept(client, keys) == ["waits"]
    await other.authenticate("7")
    assert [each["d"] for each in await other.messages(1)] == ["waits"]


async def test_a_peer_that_answers_nothing_is_away_when_heartbeats_give_it_up(
    redis_url: str,
    namespace: str,
    serving: Serving,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """1.x waits for another half minute for an answer to the close frame."""
    monkeypatch.setattr(server_socket, "CLOSE_TIMEOUT", 60.0)
    heartbeat = {"enabled": True, "interval": 0.05, "max_attempts": 1}
    endpoint = await serving(make(redis_url, namespace, heartbeat=heartbeat))
    async with RawPeer.connect(endpoint.host, endpoint.port) as peer:
        await peer.upgrade()
        await peer.frame(1, b'{"op":2,"d":{"id":"7"}}')
        await until_members(client, keys, "7")
        await until(lambda: is_away(dispatcher, "7"))
        await dispatcher.dispatch(Message(0, "waits"), ["7"])
        assert await kept(client, keys) == ["waits"]


async def test_where_authentication_is_required_the_anonymous_get_nothing_of_others(
    redis_url: str,
    namespace: str,
    serving: Serving,
    join: Joining,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
) -> None:
    server = make(redis_url, namespace, authentication={"required": True})
    server.on_message("PING")(lambda message, connection: connection.send(Message(0, None, "PONG")))
    endpoint = await serving(server)
    known, anonymous = await join(endpoint, "1"), await join(endpoint)
    await server.send(Message(0, 1, "SECRET"))
    await dispatcher.dispatch(Message(0, 2, "SECRET"), ["*"])
    await client.publish(keys.messages, '{"message":{"op":0,"d":3,"t":"SECRET"},"recipients":["*"]}')
    assert [each["d"] for each in await known.messages(3)] == [1, 2, 3]
    assert await anonymous.received("SECRET") == []


# Storing and sending.


async def test_what_a_server_sends_in_a_row_is_stored_in_its_order(
    server: Server, endpoint: Endpoint, client: Redis, keys: Mesa1Keys
) -> None:
    await asyncio.gather(*(server.send(Message(0, n), ["7"]) for n in range(20)))
    assert await kept(client, keys) == list(range(20))


async def test_a_message_to_all_does_not_overtake_one_to_an_id(
    redis_url: str, namespace: str, server: Server, serving: Serving, join: Joining
) -> None:
    await serving(server)
    peer = await join(await serving(make(redis_url, namespace)), "2")
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True, wire="mesa1") as dispatcher:
        for send in (server.send, dispatcher.dispatch):
            sending = (send(Message(0, n), ["2"] if n % 2 else ["*"]) for n in range(20))
            await asyncio.gather(*sending)
            assert [each["d"] for each in await peer.messages(20)] == list(range(20))


async def test_an_event_that_1x_has_stored_is_not_carried_out_later(
    server: Server, endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    """A client that logs in is not disconnected, and does not get the event."""
    await client.hset(keys.undelivered, "7", '[{"op":5,"d":{},"t":"DISCONNECT_CLIENT"},{"op":0,"d":"waits"}]')
    peer = await join(endpoint, "7")
    await server.send(Message(0, "live"), ["7"])
    assert [each["d"] for each in await peer.messages(2)] == ["waits", "live"]
    assert 5 not in [frame["op"] for frame in peer.frames]
    assert await kept(client, keys) == ["waits"]


async def test_an_event_of_ours_is_not_stored(
    dispatcher: AsyncDispatcher, server: Server, endpoint: Endpoint, client: Redis, keys: Mesa1Keys
) -> None:
    await dispatcher.dispatch(DispatchEvent("DISCONNECT_CLIENT"), ["7"])
    await server.send(DispatchEvent("DISCONNECT_CLIENT"), ["7"])
    assert await kept(client, keys) == []


async def test_what_is_for_one_anonymous_connection_reaches_that_alone(
    server: Server, endpoint: Endpoint, join: Joining
) -> None:
    @server.on_message("ASK")
    async def answer(message: Message, connection: Connection) -> None:
        connection.send(Message(0, message.data, "FOR_ONE"))
        await server.send(Message(0, None, "LAST"))

    one, other = await join(endpoint), await join(endpoint)
    await one.send("ASK", "secret")
    assert [each["t"] for each in await one.messages(2)] == ["FOR_ONE", "LAST"]
    assert [each["t"] for each in await other.messages(1)] == ["LAST"]


async def test_an_id_on_two_servers_is_reached_on_both(
    redis_url: str, namespace: str, server: Server, endpoint: Endpoint, serving: Serving, join: Joining
) -> None:
    here = await join(endpoint, "7")
    there = await join(await serving(make(redis_url, namespace)), "7")
    await server.send(Message(0, "to both"), ["7"])
    assert [[each["d"] for each in await peer.messages(1)] for peer in (here, there)] == [["to both"]] * 2


async def test_an_id_that_1x_names_by_a_number_is_the_same_as_text(
    endpoint: Endpoint, join: Joining, client: Redis, keys: Mesa1Keys
) -> None:
    peer = await join(endpoint, "7")
    await client.publish(keys.messages, '{"message":{"op":0,"d":1},"recipients":[7]}')
    await client.publish(keys.messages, '{"message":{"op":0,"d":2},"recipients":["7"]}')
    assert [each["d"] for each in await peer.messages(2)] == [1, 2]


def test_who_is_online_of_many_is_asked_for_at_once(keys: Mesa1Keys) -> None:
    """All scripts are sent together; each takes fifty ids, since it may have to store for them."""
    envelope = prepare(Message(0, 1), [str(n) for n in range(5000)], retention=KEEP)
    operation = Mesa1Wire(keys.namespace).dispatching([envelope])
    assert len(operation.commands) == 100
