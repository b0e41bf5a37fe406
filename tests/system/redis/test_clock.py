"""Redis's clock steps back, or another Redis takes over whose clock is behind: no lease lasts longer for it.

A script cannot have its clock set, so what was written before is moved into the future instead.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis
import redis.asyncio

from mesa_ws.backend.base import Membership
from mesa_ws.backend.mesa1 import Mesa1Backend, Mesa1PortalConsumer
from mesa_ws.backend.mesa1 import keys as mesa1_keys
from mesa_ws.backend.queries import Online
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer
from mesa_ws.backend.redis.node_commands import NodeCommands
from mesa_ws.backend.redis.portal_consumer import PortalCommands
from tests.contract.cluster import Cluster
from tests.contract.inbox_cluster import EVERY
from tests.system.conftest import LEASE, crash
from tests.system.redis.script_runner import ScriptRunner
from tests.system.waiting import until

STEP = 3_600_000
"""Milliseconds: an hour."""


@pytest.fixture
def runner(redis_url: str, namespace: str) -> Iterator[ScriptRunner]:
    with redis.Redis.from_url(redis_url) as client:
        yield ScriptRunner(client, namespace)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=["native", "mesa1"])
async def cluster(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> AsyncIterator[Cluster]:
    kind = RedisBackend if request.param == "native" else Mesa1Backend

    async with AsyncExitStack() as stack:
        yield Cluster(lambda name: kind(redis_url, namespace=name, lease=LEASE), namespace, stack)


def step_back(runner: ScriptRunner, *names: str) -> None:
    """What scores look like after the clock has stepped."""
    for name in names:
        found: Any = runner.client.zrange(name, 0, -1, withscores=True)
        for member, score in found:
            if score != float("inf"):
                runner.client.zincrby(name, STEP, member)


def left(runner: ScriptRunner, name: str, member: str) -> float:
    """Seconds until what a score stands for ends."""
    score: Any = runner.client.zscore(name, member)
    now: Any = runner.ask("TIME")
    return float(score / 1000 - now[0] - now[1] / 1e6)


def node_commands(runner: ScriptRunner, node: str, lease: float, grace: float = 5.0) -> NodeCommands:
    return NodeCommands(runner.keys, node, lease=lease, expiry=600.0, grace=grace)


def beat(runner: ScriptRunner, commands: NodeCommands, *, join: bool = False) -> None:
    runner.run(commands.heartbeat(join=join)[0])


def test_a_heartbeat_shortens_leases_to_their_own_length(runner: ScriptRunner) -> None:
    short, long, here = (
        node_commands(runner, "short", 2.0),
        node_commands(runner, "long", 300.0),
        node_commands(runner, "here", 60.0),
    )
    for each in (short, long, here):
        beat(runner, each, join=True)
    step_back(runner, runner.keys.leases)
    beat(runner, here)
    assert 1.9 < left(runner, runner.keys.leases, "short") <= 2.03
    assert 299 < left(runner, runner.keys.leases, "long") <= 303
    assert 59 < left(runner, runner.keys.leases, "here") <= 60.01


def test_a_lease_that_is_in_order_stays_as_it_is(runner: ScriptRunner) -> None:
    for each in (node_commands(runner, "long", 300.0), node_commands(runner, "short", 1.0)):
        beat(runner, each, join=True)
    before = runner.client.zscore(runner.keys.leases, "long")
    for _ in range(3):
        beat(runner, node_commands(runner, "short", 1.0))
    assert runner.client.zscore(runner.keys.leases, "long") == before


@pytest.mark.parametrize("lease", [0.002, 0.3, 0.6, 1.0, 15.0, 15.001, 60.0, 409.6, 3600.0, 86_400.0])
def test_a_lease_says_how_long_it_is(runner: ScriptRunner, lease: float) -> None:
    place = PortalCommands(runner.keys, "portal", lease)
    runner.run(place.observe())
    score: Any = runner.client.zscore(runner.keys.observers, "portal")
    length = 2 ** (score % 1 * 4096 / 128) / 1000
    assert lease <= length <= 1.01 * lease
    assert left(runner, runner.keys.observers, "portal") <= lease + 0.001


def test_a_score_without_a_length_gets_that_of_who_finds_it(runner: ScriptRunner) -> None:
    here = node_commands(runner, "here", 5.0)
    beat(runner, here, join=True)
    runner.client.zadd(runner.keys.leases, {"dead": int(time.time() * 1000) + STEP})
    beat(runner, here)
    assert left(runner, runner.keys.leases, "dead") <= 5.01


def test_a_heartbeat_does_a_bounded_part(runner: ScriptRunner) -> None:
    here = node_commands(runner, "here", 5.0)
    beat(runner, here, join=True)
    late = int(time.time() * 1000) + STEP
    runner.client.zadd(runner.keys.leases, {f"dead {n}": late for n in range(2000)})
    beat(runner, here)
    assert runner.client.zcount(runner.keys.leases, late, late) == 2000 - 1024
    beat(runner, here)
    assert runner.client.zcount(runner.keys.leases, late, late) == 0


def test_a_dispatch_shortens_the_lease_of_a_node_that_holds_a_recipient(runner: ScriptRunner) -> None:
    runner.join("node", "dead")
    runner.attach(node="dead")
    for retention in (True, False):
        step_back(runner, runner.keys.leases)
        runner.dispatch(**({} if retention else {"retention": None}))
        assert left(runner, runner.keys.leases, "dead") <= 60.6


def test_a_grace_ends_in_time(runner: ScriptRunner) -> None:
    runner.join()
    runner.attach()
    runner.attach("bob")
    runner.detach(grace=2.0)
    step_back(runner, runner.keys.graces)
    runner.beat()
    assert 1.9 < left(runner, runner.keys.graces, "alice") <= 2.03
    assert runner.client.zscore(runner.keys.graces, "bob") == float("inf")


@pytest.mark.parametrize("name", ["portals", "observers"])
def test_servers_shorten_leases_of_portals(runner: ScriptRunner, name: str) -> None:
    place = PortalCommands(runner.keys, "portal", 7.0)
    runner.run(place.heartbeat([], stays=True))
    runner.run(place.observe())
    key = getattr(runner.keys, name)
    step_back(runner, key)
    runner.join()
    assert left(runner, key, "portal") <= 7.1


def test_portals_shorten_leases_of_servers_and_of_each_other(runner: ScriptRunner) -> None:
    runner.join("dead")
    for portal in ("dead", "here"):
        runner.run(PortalCommands(runner.keys, portal, 7.0).heartbeat([], stays=True))
        runner.run(PortalCommands(runner.keys, portal, 7.0).observe())
    step_back(runner, runner.keys.leases, runner.keys.portals, runner.keys.observers)
    runner.run(PortalCommands(runner.keys, "here", 7.0).heartbeat([], stays=True))
    runner.run(PortalCommands(runner.keys, "here", 7.0).observe())
    assert left(runner, runner.keys.leases, "dead") <= 60.6
    assert left(runner, runner.keys.portals, "dead") <= 7.1
    assert left(runner, runner.keys.observers, "dead") <= 7.1


async def test_ids_of_a_dead_node_go_offline(cluster: Cluster, runner: ScriptRunner) -> None:
    survivor, dead = await cluster.node(), await cluster.node({"alice": 1})
    await crash(dead)
    step_back(runner, runner.keys.leases, mesa1_keys.Mesa1Keys(cluster.namespace).leases)
    assert await survivor.backend.query(Online(["alice"])) == {"alice": 1}

    async def is_offline() -> bool:
        return await survivor.backend.query(Online(["alice"])) == {"alice": 0}

    await until(is_offline)
    await survivor.until_told("offline", "alice")


async def test_living_nodes_stay(cluster: Cluster, runner: ScriptRunner) -> None:
    one, two = await cluster.node(), await cluster.node({"alice": 1})
    name = (
        runner.keys if isinstance(one.backend, RedisBackend) else mesa1_keys.Mesa1Keys(cluster.namespace)
    ).leases
    step_back(runner, name)

    def is_renewed() -> bool:
        return all(left(runner, name, each.backend.node_id) <= 1.01 * LEASE for each in (one, two))

    await until(is_renewed)
    assert await one.backend.query(Online(["alice"])) == {"alice": 1}
    assert ("offline", "alice") not in one.changes + two.changes


async def test_partitions_of_a_dead_portal_find_another_owner(
    redis_url: str, namespace: str, runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    dead = RedisPortalConsumer(redis_url, namespace=namespace, lease=LEASE)
    heir = RedisPortalConsumer(redis_url, namespace=namespace, lease=LEASE)
    assert set((await dead.heartbeat(EVERY)).tokens) == set(EVERY)
    step_back(runner, runner.keys.portals)
    for number in EVERY:
        await client.pexpire(runner.keys.owner(number), STEP)

    async def has_all() -> bool:
        return set((await heir.heartbeat(EVERY)).tokens) == set(EVERY)

    await until(has_all)
    assert (await heir.heartbeat(EVERY)).portals == (heir.portal_id,)
    for each in (dead, heir):
        await each.aclose()


async def test_an_owner_that_died_is_shown_no_more(
    redis_url: str, namespace: str, runner: ScriptRunner
) -> None:
    portal = RedisPortalConsumer(redis_url, namespace=namespace, lease=LEASE)
    await portal.heartbeat(EVERY)
    assert {queue.owner for queue in (await portal.backlog()).queues} == {portal.portal_id}
    runner.client.zadd(runner.keys.portals, {portal.portal_id: 1})
    assert {queue.owner for queue in (await portal.backlog()).queues} == {None}
    await portal.aclose()


async def test_portals_of_1x_leave_the_pool(redis_url: str, namespace: str, runner: ScriptRunner) -> None:
    keys = mesa1_keys.Mesa1Keys(namespace)
    server = Mesa1Backend(redis_url, namespace=namespace, lease=LEASE)
    dead = Mesa1PortalConsumer(redis_url, namespace=namespace, lease=LEASE)
    await server.open(lambda envelope: None, membership=Membership(portals=True))
    await dead.open(lambda *_: None)
    await until(lambda: runner.client.scard(keys.pool) == 1)
    await dead._tasks.aclose(1.0)
    step_back(runner, keys.portal_leases)
    await until(lambda: runner.client.scard(keys.pool) == 0)
    await dead.aclose()
    await server.aclose()
