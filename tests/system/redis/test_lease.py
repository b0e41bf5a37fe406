"""Nothing that a node does outlives it by much."""

import asyncio
import logging
import signal

import pytest
import redis.asyncio

from mesa_ws.backend.queries import ConnectionCount, Online
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.command import Call
from mesa_ws.backend.redis_client.pipelines import Pipelines
from mesa_ws.backend.redis_wire.lease import LeaseKeeper, Pulse
from mesa_ws.backend.redis_wire.timing import BEATS
from mesa_ws.concurrency.tasks import Tasks
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Cluster
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.redis.node_process import NodeProcess
from tests.system.waiting import HELLO, until, until_online, until_ready


def kept(data: object) -> Envelope:
    return prepare(Message(0, data), ["alice"], retention=Retention(100, 1_000_000, 60.0))


async def test_survivors_clean_up_after_a_node_that_died(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    survivor = await nodes.node({"alice": 1})
    dead = [str(n) for n in range(450)]
    garbage = (1, "dead", 2, b"\xff garbage", 3, "wrong")
    await client.sadd(keys.held("dead"), *dead, "alice")
    for id in (*dead, "alice"):
        await client.hset(keys.user(id), "dead", "1 1 0 - 0")
    await client.set(keys.held("wrong"), "no set")
    # Last, since it is what the survivor looks for.
    await client.execute_command("ZADD", keys.leases, *garbage)  # type: ignore[no-untyped-call]

    async def is_clean() -> bool:
        return bool(await client.zcard(keys.leases) == 1)

    await until(is_clean)
    assert await client.exists(keys.held("dead"), keys.held("wrong"), *map(keys.user, dead)) == 0
    assert await client.hkeys(keys.user("alice")) == [survivor.backend.node_id]


async def test_connections_of_a_killed_node_count_until_its_lease_ends(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    survivor = await nodes.node()
    survivor.backend.connected(2)

    async def counts(connections: int) -> bool:
        return await survivor.backend.query(ConnectionCount()) == connections

    await until(lambda: counts(2))
    await client.hset(keys.tallies, mapping={"dead": "40", "wrong": "many", "gone": "9"})
    in_a_while = int((await client.time())[0] * 1000 + LEASE * 1000 + 2000)
    await client.zadd(keys.leases, {"dead": in_a_while, "wrong": in_a_while})
    assert await counts(42)
    await until(lambda: counts(2))

    async def is_clean() -> bool:
        return set(await client.hkeys(keys.tallies)) == {survivor.backend.node_id, "gone"}

    await until(is_clean)


async def test_a_killed_node_leaves_no_ghost_after_its_lease(
    nodes: Cluster, own_redis: RedisServer, client: redis.asyncio.Redis, keys: Keys
) -> None:
    survivor = await nodes.node()
    async with NodeProcess.start(own_redis.url, nodes.namespace, "alice") as killed:
        await until_online(survivor, "alice", 1)
        killed.signal(signal.SIGKILL)
        await until_online(survivor, "alice", 0)
        (receipt,) = await survivor.backend.dispatch([prepare(HELLO, ["alice"])])
        assert receipt.deliveries["alice"].dropped == "offline"

        async def is_clean() -> bool:
            return await client.exists(keys.user("alice")) == 0

        await until(is_clean)


async def test_a_node_paused_past_its_lease_serves_again_when_it_wakes(
    nodes: Cluster, own_redis: RedisServer, client: redis.asyncio.Redis, keys: Keys
) -> None:
    survivor = await nodes.node()
    async with NodeProcess.start(own_redis.url, nodes.namespace, "alice") as paused:
        paused.signal(signal.SIGSTOP)

        async def is_forgotten() -> bool:
            return await client.exists(keys.user("alice")) == 0

        await until(is_forgotten)
        paused.signal(signal.SIGCONT)
        await until_online(survivor, "alice", 1)
        await survivor.backend.dispatch([prepare(Message(0, "awake"), ["alice"])])
        assert "awake" in await paused.line()


async def test_a_node_paused_past_its_lease_catches_up_in_order_when_it_wakes(
    nodes: Cluster, own_redis: RedisServer
) -> None:
    survivor = await nodes.node()
    async with NodeProcess.start(own_redis.url, nodes.namespace, "alice") as paused:
        await survivor.backend.dispatch([kept(0)])
        assert '"d":0' in await paused.line()
        paused.signal(signal.SIGSTOP)
        await until_online(survivor, "alice", 0)
        await survivor.backend.dispatch([kept(n) for n in range(1, 4)])
        paused.signal(signal.SIGCONT)
        await until_online(survivor, "alice", 1)
        await survivor.backend.dispatch([kept(4)])
        for n in range(1, 5):
            assert f'"d":{n}' in await paused.line()


async def test_everything_in_redis_has_an_end(nodes: Cluster, client: redis.asyncio.Redis) -> None:
    first, second = await nodes.node({"alice": 1, "bob": 2}), await nodes.node({"alice": 1})
    await first.backend.dispatch([prepare(HELLO, ["alice"]), prepare(HELLO)])
    second.backend.detach("alice")
    await first.backend.query(Online(["alice"]))
    names = await client.keys("*")
    assert len(names) >= 6
    assert [name for name in names if await client.ttl(name) < 0] == []


async def test_a_forgotten_counter_gets_an_end_again(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node = await nodes.node({"alice": 1})
    await client.delete(keys.counters)
    await node.backend.dispatch([prepare(HELLO, ["alice"])])
    assert await client.ttl(keys.counters) > 0


async def test_a_closed_cluster_leaves_its_layout_and_who_may_come_back(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    ids = {str(n): 1 for n in range(450)}
    for node in [await nodes.node(ids) for _ in range(2)]:
        await node.backend.aclose()
    assert set(await client.keys("*")) == {keys.meta, keys.graces, keys.run, keys.signs}


async def test_an_id_that_stays_is_kept_beyond_the_expiry(
    own_redis: RedisServer, client: redis.asyncio.Redis, namespace: str, keys: Keys
) -> None:
    backend = RedisBackend(own_redis.url, namespace=namespace, lease=LEASE, expiry=2 * LEASE)
    await backend.open(lambda envelope: None)
    await backend.attach("alice", 1)
    before = await client.pexpiretime(keys.user("alice"))

    async def is_renewed() -> bool:
        return bool(await client.pexpiretime(keys.user("alice")) >= before + 1000 * LEASE)

    await until(is_renewed)
    await backend.aclose()


async def test_cleaning_up_that_is_refused_harms_no_one(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws")
    node = await nodes.node({"alice": 1})
    await client.acl_setuser("default", commands=["-exists"])
    await client.zadd(keys.leases, {"dead": 1})
    await until(lambda: caplog.text.count("cleaning up failed") > 1)
    assert node.backend.is_ready


async def test_a_lease_that_is_lost_at_once_again_is_an_error(
    nodes: Cluster, client: redis.asyncio.Redis, keys: Keys
) -> None:
    node, stop = await nodes.node(), asyncio.Event()

    async def take_leases() -> None:
        while not stop.is_set():
            await client.delete(keys.leases)

    async def fails() -> bool:
        try:
            await node.backend.attach("alice", 1)
        except BackendUnavailable as error:
            return "lost its lease again at once" in str(error)
        return False

    taking = asyncio.create_task(take_leases())
    await until(fails)
    stop.set()
    await taking
    await until_ready(node)


class Faulty:
    """What a keeper reports to, with a fault in it."""

    def __init__(self) -> None:
        self.beats = 0

    async def on_beat(self, pulse: Pulse) -> None:
        self.beats += 1
        if self.beats == 2:
            raise ValueError("a fault")

    def on_doubt(self) -> None:
        """There is none."""

    def on_lost_lease(self) -> None:
        """It is not lost."""

    async def clean_up(self, call: Call) -> int:
        """Nothing is left."""
        return 0


async def test_the_heart_goes_on_after_a_fault_of_ours(
    own_redis: RedisServer, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    faulty, tasks = Faulty(), Tasks()
    pipelines = Pipelines(Address.of(own_redis.url), NativeHandshake(keys), LIMIT)
    keeper = LeaseKeeper(pipelines, NodeCommands(keys, "node", LEASE, 60), faulty, tasks)
    await keeper.open()
    await until(lambda: faulty.beats > 2)
    assert "a heartbeat failed" in caplog.text
    await tasks.aclose(LIMIT)
    await pipelines.aclose()


async def test_what_fills_the_connection_of_logins_costs_no_lease(
    nodes: Cluster, client: redis.asyncio.Redis
) -> None:
    node = await nodes.node({"alice": 1})
    backend = node.backend
    assert isinstance(backend, RedisBackend)
    opened = backend._node
    assert opened is not None
    beats = 0

    async def count(pulse: Pulse) -> None:
        nonlocal beats
        beats += 1

    opened.on_beat = count  # type: ignore[method-assign]
    held = asyncio.create_task(opened.pipelines.main.execute([("BLPOP", "nothing", 0)]))
    await until(lambda: beats > 2 * BEATS)
    await client.rpush("nothing", "something")
    await held
    assert backend.joins == 1


async def test_a_node_that_does_nothing_notices_that_its_main_connection_is_dead(nodes: Cluster) -> None:
    node = await nodes.node()
    backend = node.backend
    assert isinstance(backend, RedisBackend)
    opened = backend._node
    assert opened is not None
    doubts = 0

    def count() -> None:
        nonlocal doubts
        doubts += 1

    opened.on_doubt = count  # type: ignore[method-assign]
    with pytest.raises(BackendUnavailable):
        await opened.pipelines.main.execute([("BLPOP", "nothing", 0)])
    await until(lambda: doubts > 0)
