"""Mesa1Keys of 1.x with values that 1.x never writes there: of another type, or no number."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, BackendRefused, Message, Portal, Server
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.queries import Online
from tests.contract.cluster import LIMIT, Cluster
from tests.system.server.conftest import Joining, Serving, accepting
from tests.system.waiting import until, until_ready

from .test_nodes import backend, until_count, until_members

Redis = redis.asyncio.Redis
Write = Callable[[Redis, str], Awaitable[object]]


async def text(client: Redis, key: str) -> None:
    await client.set(key, "another application's")


async def numbers(client: Redis, key: str) -> None:
    async with client.pipeline(transaction=True) as pipeline:  # or a server might write in between
        pipeline.delete(key)
        pipeline.rpush(key, "1", "2")
        await pipeline.execute()


@pytest.fixture
async def dispatcher(redis_url: str, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True, wire="mesa1") as dispatcher:
        yield dispatcher


@pytest.mark.parametrize("write", [text, numbers])
async def test_lists_that_are_no_hash_are_set_aside_by_who_stores(
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the message is published: a dispatch that fails was published to no server."""
    await write(client, keys.undelivered)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(keys.messages)
        await pubsub.get_message(timeout=LIMIT)
        with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
            receipt = await dispatcher.dispatch(Message(0, 1), ["1"])
    assert receipt.deliveries["1"].stored
    assert await client.hgetall(keys.undelivered) == {"1": '[{"op":0,"d":1}]'}
    aside = keys.cleared(keys.undelivered)
    assert 0 < await client.ttl(aside) <= 7 * 86_400
    assert f"set aside as {aside!r}" in caplog.text


async def test_a_message_set_aside_does_not_stumble_over_what_was_there(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.set(keys.set_aside("1"), "no list")
    await client.hset(keys.undelivered, "1", "{bad")
    assert (await dispatcher.dispatch(Message(0, 1), ["1"])).deliveries["1"].stored
    assert await client.lrange(keys.set_aside("1"), 0, -1) == ["{bad"]


async def test_a_server_reads_again_when_lists_were_no_hash(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    node = await cluster.node({"a": 1})
    await text(client, keys.undelivered)
    backend(node)._opened().on_doubt()
    await until_ready(node)
    await until(lambda: is_gone(client, keys.undelivered))
    await client.srem(keys.connected, "a")
    await client.hset(keys.undelivered, "a", '[{"op":0,"d":"meanwhile"}]')
    await until(lambda: bool(node.received))


async def is_gone(client: Redis, key: str) -> bool:
    return not await client.exists(key)


@pytest.mark.parametrize("write", [text, numbers])
async def test_ids_that_are_no_set_harm_nobody_and_are_warned_of(
    redis_url: str,
    namespace: str,
    serving: Serving,
    join: Joining,
    dispatcher: AsyncDispatcher,
    client: Redis,
    keys: Mesa1Keys,
    write: Write,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They may be the number of connections of another namespace, and so stay unchanged."""
    await write(client, keys.connected)
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        server = accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=True)
        peer = await join(await serving(server), "1")
    await dispatcher.dispatch(Message(0, "live"), ["1", "away"])
    assert [each["d"] for each in await peer.messages(1)] == ["live"]
    assert await client.hkeys(keys.undelivered) == ["away"]
    assert caplog.text.count(f"{keys.connected!r} has another type than 1.x keeps there") == 1
    await peer.socket.close()
    await until(lambda: is_away(dispatcher, "1"))
    await client.delete(keys.connected)
    await join(await serving(accepting(backend=redis_url, namespace=namespace, wire="mesa1")), "2")
    await until_members(client, keys, "2")


async def is_away(dispatcher: AsyncDispatcher, id: str) -> bool:
    return await dispatcher.presence.online([id]) == {id: 0}


async def test_whom_no_set_can_tell_of_is_published_and_stored(
    dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    """A server of 1.x may hold the id, or no server may: twice is better than never."""
    await text(client, keys.connected)
    async with client.pubsub() as pubsub:
        await pubsub.subscribe(keys.messages)
        await pubsub.get_message(timeout=LIMIT)
        await dispatcher.dispatch(Message(0, 1), ["1"])
        heard = await pubsub.get_message(timeout=LIMIT)
    assert heard is not None
    assert json.loads(heard["data"])["recipients"] == ["1"]
    assert await client.hget(keys.undelivered, "1") == '[{"op":0,"d":1}]'


async def test_a_number_of_connections_that_is_none_is_refused_and_made_good(
    cluster: Cluster, dispatcher: AsyncDispatcher, client: Redis, keys: Mesa1Keys
) -> None:
    await client.set(keys.connections, "many")
    with pytest.raises(BackendRefused, match=r"expected a number of connections.*delete it$"):
        await dispatcher.presence.connections()
    node = await cluster.node()
    backend(node).connected(3)
    await until_count(client, keys, 3)
    await client.set(keys.connections, "9223372036854775807")
    backend(node).connected(4)
    await until_count(client, keys, 4)


async def test_namespaces_whose_keys_have_one_name_leave_each_other_alone(
    redis_url: str, serving: Serving, join: Joining, namespace: str, client: Redis
) -> None:
    """The key of the ids in the namespace `count_x` is that of the number of connections in `x`."""
    collides, name = f"count_{namespace}", Mesa1Keys(namespace).connections
    assert Mesa1Keys(collides).connected == name
    first = await join(
        await serving(accepting(backend=redis_url, namespace=namespace, wire="mesa1", sync=True)), "1"
    )
    await until_count(client, Mesa1Keys(namespace), 1)
    server = accepting(backend=redis_url, namespace=collides, wire="mesa1", sync=True)
    second = await join(await serving(server), "1")
    assert await client.get(name) == "1"
    for peer, where in ((first, namespace), (second, collides)):
        async with AsyncDispatcher(redis_url, namespace=where, sync=True, wire="mesa1") as dispatcher:
            await dispatcher.dispatch(Message(0, where), ["1"])
            await dispatcher.dispatch(Message(0, where), ["away"])
            assert [each["d"] for each in await peer.messages(1)] == [where]
            assert await client.hkeys(Mesa1Keys(where).undelivered) == ["away"]


@pytest.mark.parametrize("write", [text, numbers])
async def test_what_is_ours_alone_is_made_anew(
    cluster: Cluster, client: Redis, keys: Mesa1Keys, write: Write
) -> None:
    node = await cluster.node({"a": 1})
    await client.sadd(keys.connected, "of 1.x")
    commands = backend(node)._opened()._commands
    for key in (keys.leases, keys.counts, keys.graces, keys.held(commands.node), keys.user("a")):
        await write(client, key)
    backend(node).connected(2)
    await until_count(client, keys, 2)

    async def is_right() -> bool:
        try:
            return await node.backend.query(Online(["a"])) == {"a": 1} and node.backend.is_ready
        except BackendRefused:
            return False

    await until(is_right)
    await node.backend.attach("b", 1)
    await node.backend.aclose()
    await until_members(client, keys, "of 1.x")


@pytest.mark.parametrize("write", [text, numbers])
async def test_a_pool_that_is_no_set_is_put_back(
    redis_url: str,
    namespace: str,
    serving: Serving,
    join: Joining,
    client: Redis,
    keys: Mesa1Keys,
    write: Write,
) -> None:
    server: Server = accepting(backend=redis_url, namespace=namespace, wire="mesa1", portals=True)
    told: list[object] = []
    portal = Portal(redis_url, namespace=namespace, wire="mesa1")
    portal.on_message(lambda event: told.append(event.message and event.message.data))
    async with portal:
        peer = await join(await serving(server), "1")
        for key in (keys.pool, keys.portal_leases, keys.gone_portals, keys.era):
            await write(client, key)
        for n in range(20):
            await peer.send("N", n)
        await until(lambda: told == list(range(20)))
        await until(lambda: is_pool(client, keys, portal.portal_id))
        await peer.send("N", 20)
        await until(lambda: told == list(range(21)))
    assert await client.smembers(keys.pool) == set()


@pytest.mark.parametrize("write", [text, numbers])
async def test_a_portal_leaves_a_pool_at_once_whatever_our_own_keys_hold(
    redis_url: str, namespace: str, client: Redis, keys: Mesa1Keys, write: Write
) -> None:
    async with Portal(redis_url, namespace=namespace, wire="mesa1", lease=60.0) as portal:
        await until(lambda: is_pool(client, keys, portal.portal_id))
        for key in (keys.portal_leases, keys.gone_portals):
            await write(client, key)
    assert await client.smembers(keys.pool) == set()


async def is_pool(client: Redis, keys: Mesa1Keys, *ids: str) -> bool:
    try:
        return await client.smembers(keys.pool) == set(ids)
    except redis.ResponseError:
        await asyncio.sleep(0.05)
        return False
