"""Redis is away for longer than a lease: no member that only could not reach it counts as dead.

Time cannot be let pass in Redis, so what it remembers is moved into the past instead.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from mesa_ws.backend.inbox import Capacity, InboxEvent, partition_of
from mesa_ws.backend.mesa1 import Mesa1Backend, portal_liveness
from mesa_ws.backend.mesa1 import commands as mesa1_plan
from mesa_ws.backend.mesa1 import keys as mesa1_keys
from mesa_ws.backend.queries import Online
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.inbox_writer import RESULTS, AppendCommand
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.portal_consumer import PortalCommands, ownership, read_backlog
from mesa_ws.backend.redis_wire.lease import Pulse
from tests.contract.cluster import Cluster, Node
from tests.contract.inbox_cluster import EVERY
from tests.redis_server import RedisServer
from tests.system.conftest import crash
from tests.system.proxy import Proxy
from tests.system.redis.script_runner import ScriptRunner
from tests.system.waiting import until, until_ready

SECOND = 1000
LEASE_OF_HAND = 60 * SECOND
"""Milliseconds; `ScriptRunner.node_commands` has it."""


@pytest.fixture
def runner(redis_url: str, namespace: str) -> Iterator[ScriptRunner]:
    with redis.Redis.from_url(redis_url) as client:
        yield ScriptRunner(client, namespace)


def pass_time(runner: ScriptRunner, milliseconds: int) -> None:
    """Move all that Redis remembers of this namespace into the past."""
    of_1x = mesa1_keys.Mesa1Keys(runner.keys.namespace)
    sets = (runner.keys.leases, runner.keys.portals, runner.keys.observers, runner.keys.graces)
    for name in (*sets, of_1x.leases, of_1x.portal_leases, of_1x.graces):
        found: Any = runner.client.zrange(name, 0, -1, withscores=True)
        for member, score in found:
            if score != float("inf"):
                runner.client.zincrby(name, -milliseconds, member)
    for name in (runner.keys.signs, of_1x.signs):
        for field in ("at", "by", "since", "till"):
            if runner.client.hexists(name, field):
                runner.client.hincrbyfloat(name, field, -milliseconds)
    for name in runner.client.scan_iter(f"mesa:{{{runner.keys.namespace}.*"):
        left: Any = runner.client.pttl(name)
        runner.client.pexpire(name, max(0, left - milliseconds))


def dead_after(runner: ScriptRunner, beats: int, pause: int, node: str = "other") -> bool:
    """Whether a node is found dead while another one beats so often."""
    for _ in range(beats):
        pass_time(runner, pause)
        if runner.beat(node).dead:
            return True
    return False


def test_nobody_ends_whose_lease_ran_out_while_redis_was_away(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    pass_time(runner, 5 * LEASE_OF_HAND)
    assert runner.beat("other").dead == 0
    runner.reap()
    assert (runner.depart(), runner.count()) == ([], 1)
    assert runner.beat("node").has_lease


def test_what_was_asked_before_redis_was_away_ends_nobody_either(runner: ScriptRunner) -> None:
    """A survivor has found a dead member, or a grace over; its call is the first that Redis gets."""
    runner.join("node", "other")
    runner.attach()
    runner.attach("bob", "other")
    runner.detach("bob", "other", grace=1.0)
    pass_time(runner, 5 * LEASE_OF_HAND)
    runner.reap()
    assert (runner.depart(), runner.count()) == ([], 1)
    assert runner.beat("node").has_lease


def test_a_node_that_messages_may_have_passed_over_is_told_once(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    pass_time(runner, 2 * LEASE_OF_HAND)
    assert runner.dispatch().deliveries["alice"].online == 0
    assert runner.beat("other").was_passed_over  # its own lease had run out, too
    assert runner.dispatch().deliveries["alice"].online == 1
    assert [runner.beat("node").was_passed_over for _ in range(2)] == [1, 0]


def test_a_node_whose_lease_goes_on_missed_nothing(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    pass_time(runner, 2 * LEASE_OF_HAND // 3)
    assert [runner.beat(node).was_passed_over for node in ("node", "other")] == [0, 0]


def test_a_node_that_died_before_is_cleaned_up_after(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    runner.kill()
    pass_time(runner, 2 * LEASE_OF_HAND)
    assert dead_after(runner, 5, LEASE_OF_HAND // 3)
    runner.reap()
    assert runner.depart() == ["alice"]


def test_a_node_that_died_while_redis_was_away_is_cleaned_up_within_two_leases(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    pass_time(runner, 2 * LEASE_OF_HAND)
    runner.beat("other")
    assert not dead_after(runner, 2, LEASE_OF_HAND // 3)
    assert dead_after(runner, 4, LEASE_OF_HAND // 3)
    runner.reap()
    assert runner.depart() == ["alice"]
    fields: Any = runner.client.hkeys(runner.keys.signs)
    assert set(fields) == {b"at", b"by", b"run", b"since", b"till"}


@pytest.mark.parametrize("late", [0.55, 0.7, 0.9, 1.5, 1.8])
def test_a_node_that_is_always_late_keeps_no_dead_one_alive(runner: ScriptRunner, late: float) -> None:
    runner.join("node", "other")
    runner.attach()
    assert dead_after(runner, 5, int(late * LEASE_OF_HAND))
    runner.reap()
    assert runner.depart() == ["alice"]


def test_heartbeats_in_time_end_a_dead_node_when_its_lease_is_over(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    assert dead_after(runner, 4, LEASE_OF_HAND // 3)


def test_another_run_of_redis_is_as_if_it_had_been_away(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    pass_time(runner, LEASE_OF_HAND // 3)
    runner.client.hset(runner.keys.signs, "run", "0" * 16)
    runner.beat("other")
    assert not dead_after(runner, 2, LEASE_OF_HAND // 3)
    assert dead_after(runner, 4, LEASE_OF_HAND // 3)


def test_a_redis_that_is_away_again_and_again_ends_nobody_who_reached_it(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    for _ in range(5):
        for node in ("node", "other"):
            pass_time(runner, LEASE_OF_HAND)
            assert (runner.beat(node).has_lease, runner.beat(node).dead) == (True, 0)
        runner.reap()
    assert (runner.depart(), runner.count()) == ([], 1)


def test_a_clock_that_steps_back_over_a_reprieve_ends_it(runner: ScriptRunner) -> None:
    runner.join("node", "other")
    runner.attach()
    pass_time(runner, 2 * LEASE_OF_HAND)
    runner.beat("other")
    pass_time(runner, -1000 * LEASE_OF_HAND)
    runner.kill()
    assert runner.beat("other").dead == 1
    runner.reap()
    assert runner.depart() == ["alice"]


def test_a_grace_that_ran_out_while_redis_was_away_goes_on(runner: ScriptRunner) -> None:
    runner.join("node")
    for id in ("alice", "bob"):
        runner.attach(id)
        runner.detach(id, grace=5.0)
    pass_time(runner, 5 * LEASE_OF_HAND)
    assert (runner.beat().gone, runner.depart()) == (0, [])
    assert runner.attach("alice") is False  # never told offline, so it does not come online
    for _ in range(3):
        pass_time(runner, LEASE_OF_HAND // 3 + SECOND)
        runner.beat()
    assert runner.depart() == ["bob"]


def test_a_cluster_that_was_gone_for_long_forgets_a_bounded_part_at_once(runner: ScriptRunner) -> None:
    runner.join()
    runner.client.zadd(runner.keys.graces, {f"id {number}": number + 1 for number in range(5005)})
    runner.beat()
    assert runner.client.zcard(runner.keys.graces) == 5
    assert runner.attach("id 5004")  # comes online, as if it were forgotten
    runner.beat()
    assert runner.client.zcard(runner.keys.graces) == 1


def test_who_comes_before_the_first_heartbeat_never_left(runner: ScriptRunner) -> None:
    runner.join()
    runner.attach()
    runner.detach(grace=5.0)
    pass_time(runner, 2 * LEASE_OF_HAND)
    runner.client.zadd(runner.keys.leases, {"node": "+inf"})  # as if it had been there
    assert runner.attach() is False


def test_portals_stay_with_what_they_own(runner: ScriptRunner) -> None:
    one, two = PortalCommands(runner.keys, "one", 15.0), PortalCommands(runner.keys, "two", 15.0)
    half = set(list(EVERY)[::2])
    owned = ownership(runner.run(one.heartbeat(half, stays=True))).tokens
    runner.run(two.heartbeat((), stays=True))
    pass_time(runner, 100 * SECOND)
    found = ownership(runner.run(two.heartbeat(EVERY, stays=True)))
    assert set(found.portals) == {"one", "two"}
    assert set(found.tokens) == set(EVERY) - half
    assert ownership(runner.run(one.heartbeat(half, stays=True))).tokens == owned


def test_a_portal_that_was_silent_keeps_its_tokens_as_long_as_no_other_wants_them(
    runner: ScriptRunner,
) -> None:
    one, node = PortalCommands(runner.keys, "one", 15.0), "node"
    runner.join(node)
    owned = ownership(runner.run(one.heartbeat(EVERY, stays=True))).tokens
    for _ in range(3):
        pass_time(runner, 20 * SECOND)
        runner.beat(node)
    assert ownership(runner.run(one.heartbeat(EVERY, stays=True))).tokens == owned


def test_a_portal_that_died_while_redis_was_away_loses_what_it_owned(runner: ScriptRunner) -> None:
    one, two = PortalCommands(runner.keys, "one", 15.0), PortalCommands(runner.keys, "two", 15.0)
    runner.run(one.heartbeat(EVERY, stays=True))
    pass_time(runner, 100 * SECOND)
    for _ in range(6):
        found = ownership(runner.run(two.heartbeat(EVERY, stays=True)))
        pass_time(runner, 5 * SECOND)
    assert found.portals == ("two",)
    assert set(found.tokens) == set(EVERY)


def test_nodes_see_no_portal_leave(runner: ScriptRunner) -> None:
    commands = replace(runner.node_commands(), watches_portals=True)
    runner.run(commands.heartbeat(join=True)[0])
    portal = PortalCommands(runner.keys, "portal", 15.0)
    runner.run(portal.heartbeat(EVERY, stays=True))
    pass_time(runner, 100 * SECOND)
    assert runner.run(commands.heartbeat(join=False)[0])[3] == [b"portal"]
    assert {queue.owner for queue in read_backlog(runner.run(portal.backlog())).queues} == {"portal"}


def test_a_portal_takes_no_node_for_dead(runner: ScriptRunner) -> None:
    place = PortalCommands(runner.keys, "portal", 15.0)
    runner.join()
    append(runner, "connection")
    pass_time(runner, 100 * SECOND)
    assert runner.run(place.heartbeat(EVERY, stays=True))[0] == 0
    while runner.run(place.reap()):
        pass
    assert runner.client.hlen(runner.keys.connections("node")) == 1


def append(runner: ScriptRunner, kind: Any, sequence: int = 1) -> None:
    letter = InboxEvent("c", partition_of("c"), str(sequence), kind, None, "node")
    command = AppendCommand(runner.node_commands())
    reply = runner.run(command.of([(letter, Capacity(100, 100_000))]))
    assert [RESULTS[number] for number in reply[1:]] == ["taken"]


def test_an_observer_misses_nothing_of_what_comes_first(runner: ScriptRunner) -> None:
    place = PortalCommands(runner.keys, "observer", 15.0)
    runner.join()
    runner.run(place.observe())
    pass_time(runner, 30 * SECOND)
    append(runner, "connection")
    assert runner.client.xlen(runner.keys.observed) == 1


def test_an_observer_that_is_gone_is_told_nothing(runner: ScriptRunner) -> None:
    runner.join()
    runner.run(PortalCommands(runner.keys, "observer", 15.0).observe())
    pass_time(runner, 20 * SECOND)
    runner.beat()
    append(runner, "connection")
    assert runner.client.xlen(runner.keys.observed) == 0


def seat_of_1x(runner: ScriptRunner, node: str) -> mesa1_plan.Mesa1NodeCommands:
    return mesa1_plan.Mesa1NodeCommands(mesa1_keys.Mesa1Keys(runner.keys.namespace), node, 60.0, 600.0, 5.0)


def beat_of_1x(runner: ScriptRunner, node: str) -> Pulse:
    seat = seat_of_1x(runner, node)
    return seat.pulse(runner.run(seat.heartbeat(join=True, connections=1)[0]))


def test_on_the_wire_of_1x_nobody_ends_either(runner: ScriptRunner) -> None:
    one, two = seat_of_1x(runner, "one"), seat_of_1x(runner, "two")
    for node in ("one", "two"):
        beat_of_1x(runner, node)
    runner.run(one.attach({"alice": 1, "bob": 1}))
    runner.run(one.detach(["bob"]))
    pass_time(runner, 5 * LEASE_OF_HAND)
    for _ in range(2):
        while runner.run(two.reap()):
            pass
        assert runner.run(two.depart()) == []
        pulse = beat_of_1x(runner, "two")
        assert (pulse.dead, pulse.gone) == (0, 0)
    pulses = [beat_of_1x(runner, "one") for _ in range(2)]
    assert [(pulse.own[0], pulse.was_passed_over) for pulse in pulses] == [(1, 1), (1, 0)]
    for _ in range(4):
        pass_time(runner, LEASE_OF_HAND // 3)
        beat_of_1x(runner, "two")
    while runner.run(two.reap()):
        pass
    assert set(runner.run(two.depart())) == {b"alice", b"bob"}


def test_on_the_wire_of_1x_portals_stay(runner: ScriptRunner) -> None:
    keys = mesa1_keys.Mesa1Keys(runner.keys.namespace)
    runner.run(portal_liveness.portal_heartbeat(keys, "portal", 15.0, 600.0, is_new=True))
    beat_of_1x(runner, "node")
    pass_time(runner, 100 * SECOND)

    def seconds_left() -> float:
        return portal_liveness.PoolSnapshot.of(
            runner.run(portal_liveness.look(keys, "era", 600.0, 15.0))
        ).leases["portal"]

    assert seconds_left() > 0
    assert runner.run(portal_liveness.remove_portal(keys, "portal", "ours", 600.0)) == 0
    beat_of_1x(runner, "node")
    assert 14 < seconds_left() < 16
    assert runner.run(portal_liveness.remove_portal(keys, "portal", "ours", 600.0)) == 0
    for _ in range(4):
        pass_time(runner, 20 * SECOND)
        beat_of_1x(runner, "node")
    assert seconds_left() < 0
    assert runner.run(portal_liveness.remove_portal(keys, "portal", "ours", 600.0)) == 1


@pytest.fixture
def logged_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis that keeps what it holds when it is restarted."""
    server = RedisServer(tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def late_way(logged_redis: RedisServer) -> AsyncIterator[Proxy]:
    """A way to it that can be shut."""
    async with Proxy.to(logged_redis.port) as proxy:
        yield proxy


async def be_away(server: RedisServer, how: str, seconds: float) -> None:
    """Keep Redis from answering for some time."""
    if how == "stopped":
        server.freeze()
    else:
        server.stop()
    end = time.monotonic() + seconds
    await until(lambda: time.monotonic() >= end)
    if how == "stopped":
        server.thaw()
    else:
        server.start()


async def until_beat(runner: ScriptRunner, name: str, node: Node) -> None:
    """Wait until a node has renewed its lease."""

    def end_of_lease() -> Any:
        try:
            return runner.client.zscore(name, node.backend.node_id)
        except redis.BusyLoadingError:
            return None

    await until(lambda: end_of_lease() is not None)
    before = end_of_lease()
    await until(lambda: end_of_lease() != before)


@pytest.mark.parametrize(
    ("kind", "how"),
    [(RedisBackend, "stopped"), (RedisBackend, "restarted"), (Mesa1Backend, "restarted")],
    ids=["native-stopped", "native-restarted", "mesa1-restarted"],
)
async def test_nobody_is_told_offline_whose_node_is_the_last_to_come_back(
    logged_redis: RedisServer, late_way: Proxy, namespace: str, kind: Any, how: str
) -> None:
    ids = [str(number) for number in range(300)]
    async with AsyncExitStack() as stack:

        async def node(url: str, *held: str) -> Node:
            cluster = Cluster(lambda name: kind(url, namespace=name, lease=1.5), namespace, stack)
            return await cluster.node(dict.fromkeys(held, 1), grace=0.1)

        one, two = await node(logged_redis.url, *ids[::2]), await node(late_way.url, *ids[1::2])
        dead = await node(logged_redis.url, "ghost")
        await crash(dead)
        late_way.is_shut = True
        late_way.cut()
        await be_away(logged_redis, how, 1.6)
        with redis.Redis.from_url(logged_redis.url) as client:
            keys = Keys(namespace) if kind is RedisBackend else mesa1_keys.Mesa1Keys(namespace)
            for _ in range(2):
                await until_beat(ScriptRunner(client, namespace), keys.leases, one)
        late_way.is_shut = False
        await until_ready(one, two)
        await until(lambda: ("offline", "ghost") in one.changes + two.changes)
        changes = one.changes + two.changes + dead.changes
        assert [id for change, id in changes if change == "offline"] == ["ghost"]
        assert sorted(id for change, id in changes if change == "online") == sorted([*ids, "ghost"])
        assert set((await one.backend.query(Online(ids))).values()) == {1}
