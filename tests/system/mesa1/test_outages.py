"""Servers that are killed or cut off from Redis, and a Redis that loses data, on the 1.x Redis wire."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, BackendRefused, Message, Server
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.interop.served import ServerProcess
from tests.redis_server import RedisServer
from tests.system.server.conftest import Joining, Serving, accepting
from tests.system.server.peer import LIMIT, Peer
from tests.system.waiting import until

Redis = redis.asyncio.Redis
PubSub = redis.asyncio.client.PubSub


@pytest.fixture
async def own_client(own_redis: RedisServer) -> AsyncIterator[Redis]:
    async with redis.asyncio.Redis.from_url(own_redis.url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def dispatcher(own_redis: RedisServer, namespace: str) -> AsyncIterator[AsyncDispatcher]:
    async with AsyncDispatcher(own_redis.url, namespace=namespace, wire="mesa1", sync=True) as dispatcher:
        yield dispatcher


@pytest.fixture
def server(own_redis: RedisServer, namespace: str) -> Server:
    return accepting(backend=own_redis.url, namespace=namespace, wire="mesa1", sync=True)


BYSTANDER = "bystander"


@pytest.fixture
async def bystander(own_redis: RedisServer, namespace: str) -> AsyncIterator[PubSub]:
    """A server of 1.x that hears all messages, so that each message has a listener."""
    url, channel = own_redis.url, Mesa1Keys(namespace).messages
    async with redis.asyncio.Redis.from_url(url, client_name=BYSTANDER) as client, client.pubsub() as pubsub:
        await pubsub.subscribe(channel)
        await pubsub.get_message(timeout=LIMIT)
        yield pubsub


async def cut_off(client: Redis) -> None:
    """Close the subscriptions of all servers but the bystander."""
    for each in await client.client_list(_type="pubsub"):
        if each["name"] != BYSTANDER:
            await client.client_kill_filter(_id=each["id"])


async def test_what_is_sent_to_clients_of_a_killed_server_is_stored(
    own_redis: RedisServer, namespace: str, dispatcher: AsyncDispatcher, bystander: PubSub
) -> None:
    """At once, although its lease has not ended; and a server of 1.x may hold the ids, too."""
    options = ("--redis", own_redis.url, "--namespace", namespace, "--wire", "mesa1")
    process = await asyncio.to_thread(ServerProcess, *options)
    await asyncio.to_thread(process.start)
    async with Peer.connect(process.url) as peer:
        await peer.authenticate("1")
        process.kill()
    receipt = await dispatcher.dispatch(Message(0, "missed"), ["1"])
    assert receipt.deliveries["1"].stored
    heard = await bystander.get_message(timeout=LIMIT)
    assert heard is not None
    assert json.loads(heard["data"])["message"]["d"] == "missed"
    await asyncio.to_thread(process.start)
    try:
        async with Peer.connect(process.url) as peer:
            await peer.authenticate("1")
            assert [each["d"] for each in await peer.messages(1)] == ["missed"]
    finally:
        await asyncio.to_thread(process.stop)


@pytest.mark.usefixtures("bystander")
async def test_a_server_that_is_cut_off_misses_nothing_that_is_to_be_stored(
    server: Server, serving: Serving, join: Joining, own_client: Redis, dispatcher: AsyncDispatcher
) -> None:
    peer = await join(await serving(server), "1")
    for n in range(50):
        if n % 10 == 5:
            await cut_off(own_client)
        await dispatcher.dispatch(Message(0, n), ["1"])
    seen: set[int] = set()
    while seen != set(range(50)):
        [frame] = await peer.messages(1)
        seen.add(frame["d"])


async def test_a_redis_that_lost_everything_is_told_anew(
    server: Server,
    serving: Serving,
    join: Joining,
    own_redis: RedisServer,
    dispatcher: AsyncDispatcher,
    namespace: str,
) -> None:
    endpoint, keys = await serving(server), Mesa1Keys(namespace)
    peer = await join(endpoint, "1")
    await join(endpoint)
    own_redis.stop()
    own_redis.start()
    async with redis.asyncio.Redis.from_url(own_redis.url, decode_responses=True) as client:

        async def is_told() -> bool:
            return (
                await client.smembers(keys.connected) == {"1"} and await client.get(keys.connections) == "2"
            )

        await until(is_told)
        await until(lambda: server.is_ready)
        await dispatcher.dispatch(Message(0, "live"), ["1"])
        assert [each["d"] for each in await peer.messages(1)] == ["live"]
        assert not await client.exists(keys.undelivered)


async def test_a_redis_that_is_full_refuses_to_store_and_lets_clients_log_in(
    server: Server,
    serving: Serving,
    join: Joining,
    own_client: Redis,
    dispatcher: AsyncDispatcher,
    bystander: PubSub,
    namespace: str,
) -> None:
    """A refused message was not published either."""
    endpoint, keys = await serving(server), Mesa1Keys(namespace)
    await dispatcher.dispatch(Message(0, "before"), ["1"])
    await own_client.config_set("maxmemory", 1)
    with pytest.raises(BackendRefused, match="Redis is full"):
        await dispatcher.dispatch(Message(0, "refused"), ["1", "2"])
    peer = await join(endpoint, "1")
    assert [each["d"] for each in await peer.messages(1)] == ["before"]
    await peer.answer()
    await until(lambda: is_forgotten(own_client, keys, "1"))
    await dispatcher.dispatch(Message(0, "to all"))
    assert [each["d"] for each in await peer.messages(1)] == ["to all"]
    heard = await bystander.get_message(timeout=LIMIT)
    assert heard is not None
    assert json.loads(heard["data"])["message"]["d"] == "to all"


async def is_forgotten(client: Redis, keys: Mesa1Keys, id: str) -> bool:
    return not await client.hexists(keys.undelivered, id)
