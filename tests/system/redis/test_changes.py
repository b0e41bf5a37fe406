"""Who came online and who went offline, when nodes and Redis fail."""

import asyncio
import signal

import pytest
import redis.asyncio

from mesa_ws.backend.base import Membership
from mesa_ws.backend.queries import OnlineCount
from mesa_ws.backend.redis.keys import Keys
from tests.contract.cluster import LIMIT, Cluster, Node
from tests.redis_server import RedisServer
from tests.system.redis.node_process import NodeProcess
from tests.system.waiting import until, until_online, until_ready

GRACE = 0.2


async def test_survivors_are_told_whom_a_killed_node_held(nodes: Cluster, own_redis: RedisServer) -> None:
    survivors = [await nodes.node(grace=GRACE) for _ in range(2)]
    async with NodeProcess.start(own_redis.url, nodes.namespace, "alice", "bob") as killed:
        await until_online(survivors[0], "bob", 1)
        killed.signal(signal.SIGKILL)
        changes: list[tuple[str, str]] = []

        def is_told() -> bool:
            changes[:] = [change for node in survivors for change in node.changes]
            return len(changes) >= 2

        await until(is_told)
    assert sorted(changes) == [("offline", "alice"), ("offline", "bob")]


async def test_an_id_that_moves_from_a_killed_node_in_time_is_never_offline(
    nodes: Cluster, own_redis: RedisServer
) -> None:
    survivor = await nodes.node(grace=GRACE)
    async with NodeProcess.start(own_redis.url, nodes.namespace, "alice", "bob") as killed:
        await until_online(survivor, "bob", 1)
        killed.signal(signal.SIGKILL)
        await survivor.backend.attach("alice", 1)
        await survivor.until_told("offline", "bob")
    assert survivor.changes == [("offline", "bob")]


async def test_an_id_that_was_taken_for_dead_comes_online_again(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1}, grace=GRACE)
    await until_confirmed(client, keys, node, "alice")
    async with client.pipeline(transaction=True) as reaper:
        reaper.zrem(keys.leases, node.backend.node_id)
        reaper.delete(keys.user("alice"))
        await reaper.execute()
    await until(lambda: node.changes == [("online", "alice")] * 2)


async def test_an_id_that_stays_is_not_told_again_when_its_node_is_cut_off(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    node = await nodes.node({"alice": 1}, grace=GRACE)
    has_caught_up = asyncio.Event()

    async def catch_up() -> None:
        has_caught_up.set()

    node.catch_up = catch_up  # type: ignore[method-assign]
    await client.client_kill_filter(skipme=True)
    async with asyncio.timeout(LIMIT):
        await has_caught_up.wait()
    await until_ready(node)
    assert node.changes == [("online", "alice")]


async def test_who_left_while_redis_was_away_is_offline_later(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    node = await nodes.node({"alice": 1, "bob": 1}, grace=GRACE)
    await client.config_set("requirepass", "nobody comes in")
    await client.client_kill_filter(skipme=True)
    await until(lambda: not node.backend.is_ready)
    node.backend.detach("alice")
    await client.config_set("requirepass", "")
    await node.until_told("offline", "alice")
    assert ("offline", "bob") not in node.changes


async def test_a_server_that_fails_on_one_change_is_told_the_next(
    nodes: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(nodes.backend())
    told = node.went_offline

    def faulty(id: str) -> None:
        told(id)
        raise ValueError("a fault")

    node.went_offline = faulty  # type: ignore[method-assign]
    node.came_online = faulty  # type: ignore[method-assign]
    await node.backend.open(node.receive, node, Membership(grace=GRACE))
    for id in ("alice", "bob"):
        await node.backend.attach(id, 1)
        node.backend.detach(id)
    await until(lambda: caplog.text.count("went offline") == 2)
    assert caplog.text.count("came online") == 2
    await node.backend.aclose()


async def test_the_set_that_is_counted_follows_a_redis_that_forgot(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    node = await nodes.node({"alice": 1, "bob": 2})
    await client.flushall()

    async def is_right() -> bool:
        return await node.backend.query(OnlineCount()) == 2

    await until(is_right)


async def until_confirmed(client: redis.asyncio.Redis, keys: Keys, node: Node, id: str) -> None:
    """Wait until Redis knows that the node was told of `id`."""

    async def is_so() -> bool:
        field = await client.hget(keys.user(id), node.backend.node_id)
        return str(field).endswith(" 0")

    await until(is_so)
