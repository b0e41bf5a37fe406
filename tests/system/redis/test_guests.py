"""Positions of ids that nothing was stored for, over days, runs and losses of Redis; see outbox.lua."""

from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path
from typing import Any

import pytest
import redis

from mesa_ws.backend.outbox import Start
from mesa_ws.backend.redis import wire
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.redis.script_runner import KEEP, Hand, bodies

DAY_MS = 86_400_000
WIRE2 = Start(is_wire2=True)


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand


@pytest.fixture
def own_hand(tmp_path: Path, namespace: str) -> Iterator[Hand]:
    """A hand on a Redis of its own."""
    server = RedisServer(tmp_path)
    server.start()
    with redis.Redis(port=server.port) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand
    server.stop()


def epoch_of(hand: Hand, days_ago: int = 0, id: str = "alice", run: str | None = None) -> str:
    """The epoch that an empty outbox had then."""
    found: Any = hand.client.hmget(hand.keys.secret, "k", "r")
    secret, runs = (value.decode() for value in found)
    now = hand.client.time()[0] * 1000 // DAY_MS
    text = f"{secret}:{run or runs.split(',')[0]}:{now - days_ago}:{id}"
    return sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def names(hand: Hand) -> set[str]:
    """Keys of the namespace, without their prefix."""
    found = hand.client.scan_iter(f"{hand.keys.prefix}*")
    return {key.decode().removeprefix(hand.keys.prefix) for key in found}


def test_guests_leave_nothing(hand: Hand) -> None:
    before = names(hand)
    for n in range(100):
        hand.page(f"guest {n}", WIRE2)
        hand.detach(f"guest {n}", grace=0.001)
    while hand.client.zcard(hand.keys.graces):
        hand.depart()
    assert names(hand) - before == {"s"}
    assert hand.client.zcard(hand.keys.graces) == 0


def test_the_epoch_is_made_of_secret_run_day_and_id(hand: Hand) -> None:
    assert hand.page("alice", WIRE2).epoch == epoch_of(hand)


@pytest.mark.parametrize("days", [1, 8])
@pytest.mark.parametrize("stored", [0, 3])
def test_a_position_of_an_earlier_day_holds(hand: Hand, days: int, stored: int) -> None:
    hand.page("bob", WIRE2)
    if stored:
        hand.fill(stored)
    page = hand.resume(Position(epoch_of(hand, days), 0))
    assert (page.status, page.start, page.lost, page.ended) == ("forked", 0, 0, 0)
    assert page.rollback == ""  # a day has passed, and that is all
    assert bodies(page) == [b"%d" % n for n in range(1, stored + 1)]


@pytest.mark.parametrize("days", [9, 10, 30, -2])
@pytest.mark.parametrize("stored", [0, 3])
def test_an_older_one_is_unknown(hand: Hand, days: int, stored: int) -> None:
    hand.page("bob", WIRE2)
    if stored:
        hand.fill(stored)
    assert hand.resume(Position(epoch_of(hand, days), 0)).status == "reset"


def test_a_position_from_before_the_clock_stepped_back_over_midnight_holds(hand: Hand) -> None:
    hand.page("bob", WIRE2)
    assert hand.resume(Position(epoch_of(hand, -1), 0)).status == "forked"


@pytest.mark.parametrize("days", [0, 1, 10])
def test_a_position_in_an_outbox_that_has_ended_its_life_is_unknown(hand: Hand, days: int) -> None:
    """It has the epoch of the day on which it began, and a number that an empty one does not have."""
    hand.page("bob", WIRE2)
    assert hand.resume(Position(epoch_of(hand, days), 50)).status == "reset"


def test_an_outbox_outlives_the_positions_that_its_epoch_may_be_found_by(hand: Hand) -> None:
    """Or it could begin in the same epoch again, and number other messages."""
    hand.page()
    hand.fill(1, retention=KEEP._replace(ttl=1.0))
    assert hand.client.pttl(hand.keys.position("alice")) > (8 + 1) * DAY_MS
    hand.acknowledge(hand.fill(1, retention=KEEP._replace(ttl=1.0)))
    assert hand.client.pttl(hand.keys.position("alice")) > (8 + 1) * DAY_MS


def test_without_guests_outboxes_live_as_long_as_their_messages(hand: Hand) -> None:
    hand.fill(1, retention=KEEP._replace(ttl=1.0))
    assert hand.client.pttl(hand.keys.position("alice")) <= DAY_MS + 1000
    assert "s" not in names(hand)


def test_a_position_of_another_run_is_carried_over(hand: Hand) -> None:
    hand.page("bob", WIRE2)
    run: Any = hand.client.hget(hand.keys.secret, "r")
    other = "0123456789abcdef"
    hand.client.hset(hand.keys.secret, "r", f"{run.decode()}{other}")
    page = hand.resume(Position(epoch_of(hand, 2, run=other), 0))
    assert (page.status, page.epoch, page.lost) == ("forked", epoch_of(hand), 0)
    assert page.rollback
    hand.fill(2)
    page = hand.resume(Position(epoch_of(hand, 2, run=other), 0))
    assert (page.status, bodies(page)) == ("forked", [b"1", b"2"])
    assert page.rollback
    assert hand.resume(Position(epoch_of(hand, 2, run="f" * 16), 0)).status == "reset"


def test_the_last_runs_are_known(hand: Hand) -> None:
    hand.page()
    for n in range(9):
        hand.client.hset(hand.keys.secret, "r", ",".join(f"{n}{each}" * 8 for each in range(5)) + ",")
        hand.page("bob", WIRE2)
    runs: Any = hand.client.hget(hand.keys.secret, "r")
    assert [len(run) for run in runs.decode().strip(",").split(",")] == [16] * 5
    assert hand.page().epoch == epoch_of(hand)


def test_an_outbox_begins_in_the_epoch_of_who_is_connected(hand: Hand) -> None:
    """Who logged in days ago goes on without a word."""
    hand.page("alice", WIRE2)
    earlier = epoch_of(hand, 3)
    seat: Any = hand.client.hget(hand.keys.user("alice"), "node")
    sockets, version, floor, _, first = seat.split()
    seat = b" ".join((sockets, version, floor, earlier.encode(), first))
    hand.client.hset(hand.keys.user("alice"), "node", seat)
    assert hand.fill(2) == Position(earlier, 2)
    assert hand.resume(Position(earlier, 0)).status == "resumed"
    assert hand.client.hexists(hand.keys.position("alice"), "w")


def test_what_was_set_aside_is_no_empty_outbox(hand: Hand) -> None:
    epoch = hand.page("alice", WIRE2).epoch
    hand.fill(3)
    hand.client.hset(hand.keys.position("alice"), "s", "what?")
    assert hand.resume(Position(epoch, 0)).status == "reset"
    hand.fill(1)
    assert hand.resume(Position(epoch, 0)).status == "reset"


def test_messages_without_a_position_are_no_empty_outbox(hand: Hand) -> None:
    epoch = hand.page("alice", WIRE2).epoch
    hand.fill(3)
    hand.client.delete(hand.keys.position("alice"))
    assert hand.resume(Position(epoch, 0)).status == "reset"


@pytest.mark.parametrize("then", ["a message", "a login", "a purge"])
@pytest.mark.parametrize("damage", ["a position of another form", "no position", "another type", "no entry"])
def test_what_begins_behind_a_loss_outlives_the_positions_of_before(
    hand: Hand, damage: str, then: str
) -> None:
    """Otherwise their day would identify them again, and the loss of messages would stay unknown."""
    hand.page("alice", WIRE2)
    short = KEEP._replace(ttl=1.0)
    hand.fill(3, retention=short)
    position, outbox = hand.keys.position("alice"), hand.keys.outbox("alice")
    if damage == "a position of another form":
        hand.client.hset(position, "s", "what?")
    elif damage == "no position":
        hand.client.delete(position)
    elif damage == "another type":
        hand.client.set(outbox, "foreign")
    else:
        hand.client.lset(outbox, 0, "foreign")
    if then == "a message":
        hand.fill(1, retention=short)
    elif then == "a login":
        hand.page()
    else:
        hand.run(wire.purge(hand.keys, ["alice"])[0])
    assert hand.client.pttl(position) > (8 + 1) * DAY_MS


def test_a_fork_carries_positions_from_before_the_first_message(hand: Hand) -> None:
    epoch = hand.page("alice", WIRE2).epoch
    hand.fill(2)
    hand.restart()
    assert (page := hand.resume(Position(epoch, 0))).status == "forked"
    assert bodies(page) == [b"1", b"2"]
    page = hand.resume(Position(epoch_of(hand, 5), 0))
    assert (page.status, bodies(page)) == ("forked", [b"1", b"2"])


@pytest.mark.parametrize("forget", ["the secret", "all"])
def test_without_the_secret_positions_are_unknown(own_hand: Hand, forget: str) -> None:
    epoch = own_hand.page("alice", WIRE2).epoch
    own_hand.client.delete(own_hand.keys.secret) if forget == "the secret" else own_hand.client.flushall()
    own_hand.join()
    assert own_hand.resume(Position(epoch, 0)).status == "reset"


def test_a_secret_of_another_type_is_set_aside(hand: Hand) -> None:
    hand.client.set(hand.keys.secret, "foreign")
    assert hand.page("alice", WIRE2).epoch == epoch_of(hand)
    assert hand.client.get(hand.keys.aside(hand.keys.secret)) == b"foreign"


def test_a_redis_that_evicts_keeps_positions(own_hand: Hand) -> None:
    """There a hash that is missing may have been evicted, with messages whose loss is not known."""
    epoch = own_hand.page("alice", WIRE2).epoch
    own_hand.client.config_set("maxmemory", "100mb")
    own_hand.client.config_set("maxmemory-policy", "allkeys-lru")
    assert own_hand.resume(Position(epoch, 0)).status == "reset"
    assert "s" not in names(own_hand)
    kept = own_hand.page("alice", WIRE2).epoch
    assert own_hand.client.hget(own_hand.keys.position("alice"), "e") == kept.encode()
    own_hand.client.delete(own_hand.keys.position("alice"))
    assert own_hand.resume(Position(kept, 0)).status == "reset"


def test_the_secret_ends_when_no_guest_comes_any_more(hand: Hand) -> None:
    hand.page("alice", WIRE2)
    assert 9 * DAY_MS < hand.client.pttl(hand.keys.secret) <= 10 * DAY_MS
