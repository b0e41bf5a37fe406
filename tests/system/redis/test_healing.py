"""Whatever Redis or a node forgets is made good again."""

import asyncio
import logging
from typing import Any

import pytest
import redis.asyncio

from mesa_ws.backend.queries import Online
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis_wire.timing import BEATS
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Retention, prepare
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.proxy import Proxy
from tests.system.waiting import HELLO, deliver, until, until_online, until_ready


async def test_a_node_serves_again_after_redis_lost_everything(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    first, second = await nodes.node({"alice": 2}), await nodes.node({"bob": 1})
    await client.flushall()
    await until_online(second, "alice", 2)
    await until_online(second, "bob", 1)
    await deliver(second, first)


async def test_a_node_serves_again_after_redis_restarted(nodes: Cluster, own_redis: RedisServer) -> None:
    first, second = await nodes.node({"alice": 2}), await nodes.node()
    own_redis.stop()
    await until(lambda: not first.backend.is_ready and not second.backend.is_ready)
    own_redis.start()
    await until_online(second, "alice", 2)
    await until_ready(first, second)
    await deliver(second, first)


async def test_a_node_serves_again_after_redis_hung(nodes: Cluster, own_redis: RedisServer) -> None:
    first, second = await nodes.node({"alice": 2}), await nodes.node()
    own_redis.freeze()
    await until(lambda: not first.backend.is_ready)
    own_redis.thaw()
    await until_online(second, "alice", 2)
    await until_ready(first, second)
    await deliver(second, first)


async def test_what_changed_while_redis_was_away_counts_afterwards(
    nodes: Cluster, own_redis: RedisServer
) -> None:
    first, second = await nodes.node({"gone": 1, "stays": 1}), await nodes.node()
    own_redis.freeze()
    first.backend.detach("gone")
    coming = asyncio.create_task(first.backend.attach("comes", 1))
    with pytest.raises(BackendUnavailable):
        await asyncio.wait_for(coming, LIMIT)
    own_redis.thaw()
    await until_ready(first, second)
    await until_online(second, "gone", 0)
    assert await second.backend.query(Online(["stays", "comes"])) == {"stays": 1, "comes": 1}


async def test_a_new_connection_may_lead_to_a_redis_that_forgot_something(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1})
    await client.delete(keys.user("alice"))
    await client.client_kill_filter(_type="normal", skipme=True)
    await until_online(node, "alice", 1)


@pytest.mark.parametrize(
    "name", ["leases", "counters", "graces", "tallies", "portals", "held", "connections"]
)
async def test_a_key_of_nodes_that_is_of_another_type_is_begun_anew(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, name: str
) -> None:
    first, second = await nodes.node({"alice": 2}), await nodes.node({"bob": 1})
    key = getattr(keys, name)
    key = key(first.backend.node_id) if callable(key) else key
    async with client.pipeline(transaction=True) as pipeline:  # or a node might write in between
        pipeline.delete(key)
        pipeline.rpush(key, "foreign")
        await pipeline.execute()

    async def is_right() -> bool:
        return await client.type(key) not in (b"list", "list")

    await until(is_right)
    await until_ready(first, second)
    await until_online(second, "alice", 2)
    await until_online(second, "bob", 1)
    await first.backend.attach("carol", 1)
    await deliver(second, first)
    await deliver(second, first, "carol")


async def test_a_healthy_subscription_is_left_alone(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node()
    renewals = set()

    async def subscriptions() -> list[str]:
        return [each["id"] for each in await client.client_list(_type="pubsub")]

    async def is_renewed_often() -> bool:
        renewals.add(await client.zscore(keys.leases, node.backend.node_id))
        return len(renewals) > 2 * BEATS

    before = await subscriptions()
    await until(is_renewed_often)
    assert await subscriptions() == before


async def test_a_node_is_not_ready_while_it_is_cut_off(nodes: Cluster, client: redis.asyncio.Redis) -> None:
    node = await nodes.node({"alice": 1})
    await client.config_set("requirepass", "nobody comes in")
    await client.client_kill_filter(_type="pubsub")
    await until(lambda: not node.backend.is_ready)
    await client.config_set("requirepass", "")
    await until_ready(node)
    await deliver(node, node)


async def test_messages_lost_while_cut_off_are_counted(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesa_ws.backend")
    node = await nodes.node({"alice": 1})
    assert isinstance(node.backend, RedisBackend)
    await deliver(node, node)
    await client.hincrby(keys.counters, node.backend.node_id, 3)
    await until(lambda: node.backend.lost == 3)  # type: ignore[attr-defined]
    [told] = [record for record in caplog.records if "a gap of 3 on this node's channel" in record.message]
    assert (told.levelname, "are read from Redis now" in told.message) == ("INFO", True)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_subscription_that_died_silently_is_replaced(
    proxy: Proxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mesa_ws.backend")
    node = Node(RedisBackend(proxy.url, namespace=namespace, lease=LEASE))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    await deliver(node, node)
    proxy.mute_subscribers()
    await node.backend.dispatch([prepare(HELLO, ["alice"])])
    await until(lambda: "a gap of 1 on this node's channel" in caplog.text)
    await deliver(node, node)
    await node.backend.aclose()


async def test_an_id_that_others_wrongly_believe_here_is_sent_away(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1})
    await client.hset(keys.user("ghost"), node.backend.node_id, "1 1 0 - 0")
    await client.expire(keys.user("ghost"), 60)
    assert await node.backend.query(Online(["ghost"])) == {"ghost": 1}
    await node.backend.dispatch([prepare(HELLO, ["ghost", "alice"])])
    await until_online(node, "ghost", 0)
    assert await node.backend.query(Online(["alice"])) == {"alice": 1}


async def test_repair_drops_what_a_node_does_not_hold(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1})
    ghosts = [f"ghost-{n}" for n in range(500)]
    await client.sadd(keys.held(node.backend.node_id), *ghosts)
    await client.hset(keys.user("ghost-7"), node.backend.node_id, "1 1 0 - 0")
    await client.expire(keys.user("ghost-7"), 60)
    await client.zrem(keys.leases, node.backend.node_id)
    await until_online(node, "ghost-7", 0)

    async def is_clean() -> bool:
        return await client.smembers(keys.held(node.backend.node_id)) == {"alice"}

    await until(is_clean)


async def test_a_corrupt_key_is_healed_when_its_id_is_attached(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1})
    await client.set(keys.user("alice"), "x", ex=60)
    await client.delete(keys.held(node.backend.node_id))
    await client.set(keys.held(node.backend.node_id), "x", ex=60)
    assert await node.backend.query(Online(["alice"])) == {"alice": 0}
    await node.backend.attach("alice", 3)
    assert await node.backend.query(Online(["alice"])) == {"alice": 3}


async def test_an_id_that_is_attached_while_the_lease_is_lost_is_reached(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.node()
    await client.zrem(keys.leases, node.backend.node_id)
    await asyncio.gather(*(node.backend.attach(str(n), 1) for n in range(20)))
    assert await node.backend.query(Online([str(n) for n in range(20)])) == {str(n): 1 for n in range(20)}
    assert caplog.text.count("its lease ran out") == 1


async def test_a_node_is_not_ready_when_its_lease_may_have_run_out(
    own_redis: RedisServer, namespace: str
) -> None:
    node = Node(RedisBackend(own_redis.url, namespace=namespace, lease=LEASE, timeout=10 * LIMIT))
    await node.backend.open(node.receive)
    own_redis.freeze()
    await until(lambda: not node.backend.is_ready)
    own_redis.thaw()
    await until_ready(node)
    await node.backend.aclose()


async def test_a_node_is_not_ready_until_redis_agrees_with_it(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws")
    node = await nodes.node({"alice": 1})
    await client.acl_setuser("default", commands=["-sscan"])
    await client.zrem(keys.leases, node.backend.node_id)
    await until(lambda: caplog.text.count("synchronizing with Redis failed") > 1)
    assert not node.backend.is_ready
    await client.acl_setuser("default", commands=["+sscan"])
    await until_ready(node)


async def test_ids_with_messages_are_declared_first(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    ids = [str(number) for number in range(300)]
    node, sender = await nodes.node(dict.fromkeys(ids, 1)), await nodes.node()

    async def is_confirmed() -> bool:
        return str(await client.hget(keys.user("299"), node.backend.node_id)).endswith("0")

    await until(is_confirmed)
    node.changes.clear()
    await client.flushall()
    stored = prepare(HELLO, ["299"], retention=Retention(100, 1_000_000, 60.0))
    await sender.backend.dispatch([stored])
    await until(lambda: len(node.changes) >= len(ids))
    assert node.changes[0] == ("online", "299")
    assert sorted(id for _, id in node.changes) == sorted(ids)


async def test_many_ids_are_declared_in_small_parts(nodes: Cluster, client: redis.asyncio.Redis) -> None:
    node = await nodes.node(dict.fromkeys(map(str, range(300)), 1))
    backend = node.backend
    assert isinstance(backend, RedisBackend)
    opened = backend._node
    assert opened is not None
    await client.config_resetstat()
    await opened.members.record_all()
    about: Any = await client.info("commandstats")
    assert about["cmdstat_evalsha"]["calls"] >= 8  # the lease, who has messages, and fifty at a time
