"""Redis is away for longer than a lease: no member that only could not reach it counts as dead.

Time cannot be let pass in Redis, so what it remembers is moved into the past instead.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
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
from mesa_ws.backend.redis.portal_consumer import PortalCommands, ownership, surveyed
from tests.contract.cluster import Cluster, Node
from tests.contract.inbox_cluster import EVERY
from tests.redis_server import RedisServer
from tests.system.conftest import crash
from tests.system.proxy import Proxy
from tests.system.redis.script_runner import Hand
from tests.system.waiting import until, until_ready

SECOND = 1000
LEASE_OF_HAND = 60 * SECOND
"""Milliseconds; `Hand.seat` has it."""


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        yield Hand(client, namespace)


def pass_time(hand: Hand, milliseconds: int) -> None:
    """Move all that Redis remembers of this namespace into the past."""
    of_1x = mesa1_keys.Mesa1Keys(hand.keys.namespace)
    sets = (hand.keys.leases, hand.keys.portals, hand.keys.observers, hand.keys.graces)
    for name in (*sets, of_1x.leases, of_1x.portal_leases, of_1x.graces):
        found: Any = hand.client.zrange(name, 0, -1, withscores=True)
        for member, score in found:
            if score != float("inf"):
                hand.client.zincrby(name, -milliseconds, member)
    for name in (hand.keys.signs, of_1x.signs):
        for field in ("at", "by", "since", "till"):
            if hand.client.hexists(name, field):
                hand.client.hincrbyfloat(name, field, -milliseconds)
    for name in hand.client.scan_iter(f"mesa:{{{hand.keys.namespace}.*"):
        left: Any = hand.client.pttl(name)
        hand.client.pexpire(name, max(0, left - milliseconds))


def dead_after(hand: Hand, beats: int, pause: int, node: str = "other") -> bool:
    """Whether a node is found dead while another one beats so often."""
    for _ in range(beats):
        pass_time(hand, pause)
        if hand.beat(node).dead:
            return True
    return False


def test_nobody_ends_whose_lease_ran_out_while_redis_was_away(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    pass_time(hand, 5 * LEASE_OF_HAND)
    assert hand.beat("other").dead == 0
    hand.reap()
    assert (hand.depart(), hand.count()) == ([], 1)
    assert hand.beat("node").has_lease


def test_what_was_asked_before_redis_was_away_ends_nobody_either(hand: Hand) -> None:
    """A survivor has found a dead member, or a grace over; its call is the first that Redis gets."""
    hand.join("node", "other")
    hand.attach()
    hand.attach("bob", "other")
    hand.detach("bob", "other", grace=1.0)
    pass_time(hand, 5 * LEASE_OF_HAND)
    hand.reap()
    assert (hand.depart(), hand.count()) == ([], 1)
    assert hand.beat("node").has_lease


def test_a_node_that_messages_may_have_passed_over_is_told_once(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    pass_time(hand, 2 * LEASE_OF_HAND)
    assert hand.dispatch().deliveries["alice"].online == 0
    assert hand.beat("other").was_passed_over  # its own lease had run out, too
    assert hand.dispatch().deliveries["alice"].online == 1
    assert [hand.beat("node").was_passed_over for _ in range(2)] == [1, 0]


def test_a_node_whose_lease_goes_on_missed_nothing(hand: Hand) -> None:
    hand.join("node", "other")
    pass_time(hand, 2 * LEASE_OF_HAND // 3)
    assert [hand.beat(node).was_passed_over for node in ("node", "other")] == [0, 0]


def test_a_node_that_died_before_is_cleaned_up_after(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    hand.kill()
    pass_time(hand, 2 * LEASE_OF_HAND)
    assert dead_after(hand, 5, LEASE_OF_HAND // 3)
    hand.reap()
    assert hand.depart() == ["alice"]


def test_a_node_that_died_while_redis_was_away_is_cleaned_up_within_two_leases(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    pass_time(hand, 2 * LEASE_OF_HAND)
    hand.beat("other")
    assert not dead_after(hand, 2, LEASE_OF_HAND // 3)
    assert dead_after(hand, 4, LEASE_OF_HAND // 3)
    hand.reap()
    assert hand.depart() == ["alice"]
    fields: Any = hand.client.hkeys(hand.keys.signs)
    assert set(fields) == {b"at", b"by", b"run", b"since", b"till"}


@pytest.mark.parametrize("late", [0.55, 0.7, 0.9, 1.5, 1.8])
def test_a_node_that_is_always_late_keeps_no_dead_one_alive(hand: Hand, late: float) -> None:
    hand.join("node", "other")
    hand.attach()
    assert dead_after(hand, 5, int(late * LEASE_OF_HAND))
    hand.reap()
    assert hand.depart() == ["alice"]


def test_heartbeats_in_time_end_a_dead_node_when_its_lease_is_over(hand: Hand) -> None:
    hand.join("node", "other")
    assert dead_after(hand, 4, LEASE_OF_HAND // 3)


def test_another_run_of_redis_is_as_if_it_had_been_away(hand: Hand) -> None:
    hand.join("node", "other")
    pass_time(hand, LEASE_OF_HAND // 3)
    hand.client.hset(hand.keys.signs, "run", "0" * 16)
    hand.beat("other")
    assert not dead_after(hand, 2, LEASE_OF_HAND // 3)
    assert dead_after(hand, 4, LEASE_OF_HAND // 3)


def test_a_redis_that_is_away_again_and_again_ends_nobody_who_reached_it(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    for _ in range(5):
        for node in ("node", "other"):
            pass_time(hand, LEASE_OF_HAND)
            assert (hand.beat(node).has_lease, hand.beat(node).dead) == (True, 0)
        hand.reap()
    assert (hand.depart(), hand.count()) == ([], 1)


def test_a_clock_that_steps_back_over_a_reprieve_ends_it(hand: Hand) -> None:
    hand.join("node", "other")
    hand.attach()
    pass_time(hand, 2 * LEASE_OF_HAND)
    hand.beat("other")
    pass_time(hand, -1000 * LEASE_OF_HAND)
    hand.kill()
    assert hand.beat("other").dead == 1
    hand.reap()
    assert hand.depart() == ["alice"]


def test_a_grace_that_ran_out_while_redis_was_away_goes_on(hand: Hand) -> None:
    hand.join("node")
    for id in ("alice", "bob"):
        hand.attach(id)
        hand.detach(id, grace=5.0)
    pass_time(hand, 5 * LEASE_OF_HAND)
    assert (hand.beat().gone, hand.depart()) == (0, [])
    assert hand.attach("alice") is False  # never told offline, so it does not come online
    for _ in range(3):
        pass_time(hand, LEASE_OF_HAND // 3 + SECOND)
        hand.beat()
    assert hand.depart() == ["bob"]


def test_a_cluster_that_was_gone_for_long_forgets_a_bounded_part_at_once(hand: Hand) -> None:
    hand.join()
    hand.client.zadd(hand.keys.graces, {f"id {number}": number + 1 for number in range(5005)})
    hand.beat()
    assert hand.client.zcard(hand.keys.graces) == 5
    assert hand.attach("id 5004")  # comes online, as if it were forgotten
    hand.beat()
    assert hand.client.zcard(hand.keys.graces) == 1


def test_who_comes_before_the_first_heartbeat_never_left(hand: Hand) -> None:
    hand.join()
    hand.attach()
    hand.detach(grace=5.0)
    pass_time(hand, 2 * LEASE_OF_HAND)
    hand.client.zadd(hand.keys.leases, {"node": "+inf"})  # as if it had been there
    assert hand.attach() is False


def test_portals_stay_with_what_they_own(hand: Hand) -> None:
    one, two = PortalCommands(hand.keys, "one", 15.0), PortalCommands(hand.keys, "two", 15.0)
    half = set(list(EVERY)[::2])
    owned = ownership(hand.run(one.tend(half, stays=True))).tokens
    hand.run(two.tend((), stays=True))
    pass_time(hand, 100 * SECOND)
    found = ownership(hand.run(two.tend(EVERY, stays=True)))
    assert set(found.portals) == {"one", "two"}
    assert set(found.tokens) == set(EVERY) - half
    assert ownership(hand.run(one.tend(half, stays=True))).tokens == owned


def test_a_portal_that_was_silent_keeps_its_tokens_as_long_as_no_other_wants_them(hand: Hand) -> None:
    one, node = PortalCommands(hand.keys, "one", 15.0), "node"
    hand.join(node)
    owned = ownership(hand.run(one.tend(EVERY, stays=True))).tokens
    for _ in range(3):
        pass_time(hand, 20 * SECOND)
        hand.beat(node)
    assert ownership(hand.run(one.tend(EVERY, stays=True))).tokens == owned


def test_a_portal_that_died_while_redis_was_away_loses_what_it_owned(hand: Hand) -> None:
    one, two = PortalCommands(hand.keys, "one", 15.0), PortalCommands(hand.keys, "two", 15.0)
    hand.run(one.tend(EVERY, stays=True))
    pass_time(hand, 100 * SECOND)
    for _ in range(6):
        found = ownership(hand.run(two.tend(EVERY, stays=True)))
        pass_time(hand, 5 * SECOND)
    assert found.portals == ("two",)
    assert set(found.tokens) == set(EVERY)


def test_nodes_see_no_portal_leave(hand: Hand) -> None:
    seat = hand.seat()._replace(watches_portals=True)
    hand.run(seat.heartbeat(join=True)[0])
    portal = PortalCommands(hand.keys, "portal", 15.0)
    hand.run(portal.tend(EVERY, stays=True))
    pass_time(hand, 100 * SECOND)
    assert hand.run(seat.heartbeat(join=False)[0])[3] == [b"portal"]
    assert {queue.owner for queue in surveyed(hand.run(portal.survey())).queues} == {"portal"}


def test_a_portal_takes_no_node_for_dead(hand: Hand) -> None:
    place = PortalCommands(hand.keys, "portal", 15.0)
    hand.join()
    append(hand, "connection")
    pass_time(hand, 100 * SECOND)
    assert hand.run(place.tend(EVERY, stays=True))[0] == 0
    while hand.run(place.reap()):
        pass
    assert hand.client.hlen(hand.keys.connections("node")) == 1


def append(hand: Hand, kind: Any, sequence: int = 1) -> None:
    letter = InboxEvent("c", partition_of("c"), str(sequence), kind, None, "node")
    command = AppendCommand(hand.seat())
    reply = hand.run(command.of([(letter, Capacity(100, 100_000))]))
    assert [RESULTS[number] for number in reply[1:]] == ["taken"]


def test_an_observer_misses_nothing_of_what_comes_first(hand: Hand) -> None:
    place = PortalCommands(hand.keys, "observer", 15.0)
    hand.join()
    hand.run(place.overhear())
    pass_time(hand, 30 * SECOND)
    append(hand, "connection")
    assert hand.client.xlen(hand.keys.observed) == 1


def test_an_observer_that_is_gone_is_told_nothing(hand: Hand) -> None:
    hand.join()
    hand.run(PortalCommands(hand.keys, "observer", 15.0).overhear())
    pass_time(hand, 20 * SECOND)
    hand.beat()
    append(hand, "connection")
    assert hand.client.xlen(hand.keys.observed) == 0


def seat_of_1x(hand: Hand, node: str) -> mesa1_plan.Mesa1NodeCommands:
    return mesa1_plan.Mesa1NodeCommands(mesa1_keys.Mesa1Keys(hand.keys.namespace), node, 60.0, 600.0, 5.0)


def beat_of_1x(hand: Hand, node: str) -> mesa1_plan.Mesa1Pulse:
    return mesa1_plan.Mesa1Pulse(*hand.run(seat_of_1x(hand, node).beat(1)))


def test_on_the_wire_of_1x_nobody_ends_either(hand: Hand) -> None:
    one, two = seat_of_1x(hand, "one"), seat_of_1x(hand, "two")
    for node in ("one", "two"):
        beat_of_1x(hand, node)
    hand.run(one.attach({"alice": 1, "bob": 1}))
    hand.run(one.detach(["bob"]))
    pass_time(hand, 5 * LEASE_OF_HAND)
    for _ in range(2):
        while hand.run(two.reap()):
            pass
        assert hand.run(two.depart()) == []
        pulse = beat_of_1x(hand, "two")
        assert (pulse.dead, pulse.gone) == (0, 0)
    assert [tuple(beat_of_1x(hand, "one"))[::6] for _ in range(2)] == [(1, 1), (1, 0)]
    for _ in range(4):
        pass_time(hand, LEASE_OF_HAND // 3)
        beat_of_1x(hand, "two")
    while hand.run(two.reap()):
        pass
    assert set(hand.run(two.depart())) == {b"alice", b"bob"}


def test_on_the_wire_of_1x_portals_stay(hand: Hand) -> None:
    keys = mesa1_keys.Mesa1Keys(hand.keys.namespace)
    hand.run(portal_liveness.admit(keys, "portal", 15.0, 600.0, is_new=True))
    beat_of_1x(hand, "node")
    pass_time(hand, 100 * SECOND)

    def seconds_left() -> float:
        return portal_liveness.PoolSnapshot.of(
            hand.run(portal_liveness.look(keys, "era", 600.0, 15.0))
        ).leases["portal"]

    assert seconds_left() > 0
    assert hand.run(portal_liveness.withdraw(keys, "portal", "ours", 600.0)) == 0
    beat_of_1x(hand, "node")
    assert 14 < seconds_left() < 16
    assert hand.run(portal_liveness.withdraw(keys, "portal", "ours", 600.0)) == 0
    for _ in range(4):
        pass_time(hand, 20 * SECOND)
        beat_of_1x(hand, "node")
    assert seconds_left() < 0
    assert hand.run(portal_liveness.withdraw(keys, "portal", "ours", 600.0)) == 1


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


async def until_beat(hand: Hand, name: str, node: Node) -> None:
    """Wait until a node has renewed its lease."""

    def end_of_lease() -> Any:
        try:
            return hand.client.zscore(name, node.backend.node_id)
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
                await until_beat(Hand(client, namespace), keys.leases, one)
        late_way.is_shut = False
        await until_ready(one, two)
        await until(lambda: ("offline", "ghost") in one.changes + two.changes)
        changes = one.changes + two.changes + dead.changes
        assert [id for change, id in changes if change == "offline"] == ["ghost"]
        assert sorted(id for change, id in changes if change == "online") == sorted([*ids, "ghost"])
        assert set((await one.backend.query(Online(ids))).values()) == {1}
