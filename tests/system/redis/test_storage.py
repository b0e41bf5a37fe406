"""What a Redis has to be like to store messages, and what happens when it is full or corrupt."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest
import redis.asyncio

from mesa_ws.backend.base import Membership
from mesa_ws.backend.outbox import Acknowledgement, Start
from mesa_ws.backend.queries import Online, OnlineCount, Peek
from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus, RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.errors import BackendRefused
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.settings import Sync
from tests.contract.cluster import Cluster, Node
from tests.redis_server import RedisServer

KEEP = Retention(100, 1_000_000, 60.0)

Use = Callable[[Sync], "asyncio.Future[None]"]


def kept(data: object, *ids: str) -> Envelope:
    return prepare(Message(0, data), ids or ["alice"], retention=KEEP)


@pytest.fixture(params=["asyncio", "threads", "node"])
async def use(request: pytest.FixtureRequest, own_redis: RedisServer, namespace: str) -> AsyncIterator[Use]:
    """Uses `own_redis` once, as a process that stores messages according to some settings."""
    async with AsyncExitStack() as stack:

        async def by_asyncio(sync: Sync) -> None:
            bus = AsyncRedisBus(own_redis.url, namespace=namespace, sync=sync)
            stack.push_async_callback(bus.aclose)
            await bus.query(OnlineCount())

        async def by_threads(sync: Sync) -> None:
            bus = BlockingRedisBus(own_redis.url, namespace=namespace, sync=sync)
            stack.callback(bus.close)
            await asyncio.to_thread(bus.query, OnlineCount())

        async def by_node(sync: Sync) -> None:
            backend = RedisBackend(own_redis.url, namespace=namespace)
            retention = Retention.of(sync)
            await backend.open(
                lambda envelope: None,
                membership=Membership(retention=retention, allow_eviction=sync.allow_eviction),
            )
            stack.push_async_callback(backend.aclose)

        ways = {"asyncio": by_asyncio, "threads": by_threads, "node": by_node}
        yield lambda sync: asyncio.ensure_future(ways[request.param](sync))


async def test_a_redis_that_evicts_is_refused(use: Use, client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", "100mb")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(BackendRefused, match=r"maxmemory-policy is allkeys-lru.*noeviction.*allow_eviction"):
        await use(Sync(enabled=True))


async def test_a_redis_that_evicts_may_be_accepted(use: Use, client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", "100mb")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await use(Sync(enabled=True, allow_eviction=True))


async def test_who_stores_nothing_may_use_any_redis(use: Use, client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", "100mb")
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await use(Sync())


async def test_a_policy_without_a_limit_does_not_matter(use: Use, client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory-policy", "allkeys-lru")
    await use(Sync(enabled=True))


async def test_a_redis_without_a_log_is_warned_of_once(use: Use, caplog: pytest.LogCaptureFixture) -> None:
    await use(Sync(enabled=True))
    assert caplog.text.count("appendonly is off; a restart loses the messages") == 1


async def test_a_redis_with_a_log_is_not_warned_of(
    use: Use, client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await client.config_set("appendonly", "yes")
    await use(Sync(enabled=True))
    assert "appendonly" not in caplog.text


async def test_who_stores_nothing_is_not_warned(use: Use, caplog: pytest.LogCaptureFixture) -> None:
    await use(Sync())
    assert "appendonly" not in caplog.text


async def test_one_warning_for_many_connections(
    own_redis: RedisServer, client: redis.asyncio.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    bus = AsyncRedisBus(own_redis.url, sync=Sync(enabled=True))
    for _ in range(3):
        await bus.query(OnlineCount())
        await client.client_kill_filter(_type="normal", skipme=True)
    await bus.aclose()
    assert caplog.text.count("appendonly is off") == 1


async def test_a_full_redis_stores_nothing_but_people_log_in_and_drain(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    node = await nodes.node()
    (receipt,) = await node.backend.dispatch([kept("before")])
    await client.config_set("maxmemory", 1)
    with pytest.raises(BackendRefused, match="Redis is full"):
        await node.backend.dispatch([kept("when full")])
    page = await node.backend.attach("alice", 1, Start())
    assert page is not None
    assert len(page.entries) == 1
    position = receipt.deliveries["alice"].position
    assert position is not None
    node.backend.acknowledge([Acknowledgement("alice", position, position.sequence)])
    assert await node.backend.query(Peek("alice", 10)) == []
    assert await node.backend.query(Online(["alice"])) == {"alice": 1}
    await client.config_set("maxmemory", 0)
    await node.backend.dispatch([kept("after")])


async def test_a_node_opens_at_a_full_redis(nodes: Cluster, client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", 1)
    node = await nodes.node({"alice": 1}, retention=KEEP)
    assert await node.backend.query(OnlineCount()) == 1


async def test_a_corrupt_outbox_is_warned_of_when_a_message_is_stored(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.node()
    await client.set(keys.position("bob"), "x")
    (receipt,) = await node.backend.dispatch([kept("x", "alice", "bob")])
    assert all(delivery.stored for delivery in receipt.deliveries.values())
    assert caplog.text.count("was corrupt and starts empty") == 1
    assert keys.set_aside("bob") in caplog.text


async def test_a_corrupt_outbox_is_warned_of_when_it_is_read(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.node()
    await client.rpush(keys.outbox("alice"), "no entry")
    await client.hset(keys.position("alice"), "e", "no epoch")
    page = await node.backend.attach("alice", 1, Start())
    assert page is not None
    assert page.entries == ()
    assert caplog.text.count("the outbox of 'alice' was corrupt") == 1
    assert await client.exists(keys.set_aside("alice")) == 1


async def test_corrupt_messages_to_everybody_are_warned_of(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    node: Node = await nodes.node()
    await client.set(keys.broadcasts, "x")
    await node.backend.broadcasts(None)
    assert caplog.text.count("the outbox of '*' was corrupt") == 1
