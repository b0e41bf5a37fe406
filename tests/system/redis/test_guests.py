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
from tests.system.redis.script_runner import KEEP, ScriptRunner, bodies

DAY_MS = 86_400_000
WIRE2 = Start(is_wire2=True)


@pytest.fixture
def own_hand(tmp_path: Path, namespace: str) -> Iterator[ScriptRunner]:
    """A runner on a Redis of its own."""
    server = RedisServer(tmp_path)
    server.start()
    with redis.Redis(port=server.port) as client:
        runner = ScriptRunner(client, namespace)
        runner.join()
        yield runner
    server.stop()


def epoch_of(runner: ScriptRunner, days_ago: int = 0, id: str = "alice", run: str | None = None) -> str:
    """The epoch that an empty outbox had then."""
    found: Any = runner.client.hmget(runner.keys.secret, "k", "r")
    secret, runs = (value.decode() for value in found)
    now = runner.client.time()[0] * 1000 // DAY_MS
    text = f"{secret}:{run or runs.split(',')[0]}:{now - days_ago}:{id}"
    return sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]


def names(runner: ScriptRunner) -> set[str]:
    """Keys of the namespace, without their prefix."""
    found = runner.client.scan_iter(f"{runner.keys.prefix}*")
    return {key.decode().removeprefix(runner.keys.prefix) for key in found}


def test_guests_leave_nothing(runner: ScriptRunner) -> None:
    before = names(runner)
    for n in range(100):
        runner.page(f"guest {n}", WIRE2)
        runner.detach(f"guest {n}", grace=0.001)
    while runner.client.zcard(runner.keys.graces):
        runner.depart()
    assert names(runner) - before == {"s"}
    assert runner.client.zcard(runner.keys.graces) == 0


def test_the_epoch_is_made_of_secret_run_day_and_id(runner: ScriptRunner) -> None:
    assert runner.page("alice", WIRE2).epoch == epoch_of(runner)


@pytest.mark.parametrize("days", [1, 8])
@pytest.mark.parametrize("stored", [0, 3])
def test_a_position_of_an_earlier_day_holds(runner: ScriptRunner, days: int, stored: int) -> None:
    runner.page("bob", WIRE2)
    if stored:
        runner.fill(stored)
    page = runner.resume(Position(epoch_of(runner, days), 0))
    assert (page.status, page.start, page.lost, page.ended) == ("forked", 0, 0, 0)
    assert page.rollback == ""  # a day has passed, and that is all
    assert bodies(page) == [b"%d" % n for n in range(1, stored + 1)]


@pytest.mark.parametrize("days", [9, 10, 30, -2])
@pytest.mark.parametrize("stored", [0, 3])
def test_an_older_one_is_unknown(runner: ScriptRunner, days: int, stored: int) -> None:
    runner.page("bob", WIRE2)
    if stored:
        runner.fill(stored)
    assert runner.resume(Position(epoch_of(runner, days), 0)).status == "reset"


def test_a_position_from_before_the_clock_stepped_back_over_midnight_holds(runner: ScriptRunner) -> None:
    runner.page("bob", WIRE2)
    assert runner.resume(Position(epoch_of(runner, -1), 0)).status == "forked"


@pytest.mark.parametrize("days", [0, 1, 10])
def test_a_position_in_an_outbox_that_has_ended_its_life_is_unknown(runner: ScriptRunner, days: int) -> None:
    """It has the epoch of the day on which it began, and a number that an empty one does not have."""
    runner.page("bob", WIRE2)
    assert runner.resume(Position(epoch_of(runner, days), 50)).status == "reset"


def test_an_outbox_outlives_the_positions_that_its_epoch_may_be_found_by(runner: ScriptRunner) -> None:
    """Or it could begin in the same epoch again, and number other messages."""
    runner.page()
    runner.fill(1, retention=KEEP._replace(ttl=1.0))
    assert runner.client.pttl(runner.keys.position("alice")) > (8 + 1) * DAY_MS
    runner.acknowledge(runner.fill(1, retention=KEEP._replace(ttl=1.0)))
    assert runner.client.pttl(runner.keys.position("alice")) > (8 + 1) * DAY_MS


def test_without_guests_outboxes_live_as_long_as_their_messages(runner: ScriptRunner) -> None:
    runner.fill(1, retention=KEEP._replace(ttl=1.0))
    assert runner.client.pttl(runner.keys.position("alice")) <= DAY_MS + 1000 * 17 / 16
    assert "s" not in names(runner)


def test_a_position_of_another_run_is_carried_over(runner: ScriptRunner) -> None:
    runner.page("bob", WIRE2)
    run: Any = runner.client.hget(runner.keys.secret, "r")
    other = "0123456789abcdef"
    runner.client.hset(runner.keys.secret, "r", f"{run.decode()}{other}")
    page = runner.resume(Position(epoch_of(runner, 2, run=other), 0))
    assert (page.status, page.epoch, page.lost) == ("forked", epoch_of(runner), 0)
    assert page.rollback
    runner.fill(2)
    page = runner.resume(Position(epoch_of(runner, 2, run=other), 0))
    assert (page.status, bodies(page)) == ("forked", [b"1", b"2"])
    assert page.rollback
    assert runner.resume(Position(epoch_of(runner, 2, run="f" * 16), 0)).status == "reset"


def test_the_last_runs_are_known(runner: ScriptRunner) -> None:
    runner.page()
    for n in range(9):
        runner.client.hset(runner.keys.secret, "r", ",".join(f"{n}{each}" * 8 for each in range(5)) + ",")
        runner.page("bob", WIRE2)
    runs: Any = runner.client.hget(runner.keys.secret, "r")
    assert [len(run) for run in runs.decode().strip(",").split(",")] == [16] * 5
    assert runner.page().epoch == epoch_of(runner)


def test_an_outbox_begins_in_the_epoch_of_who_is_connected(runner: ScriptRunner) -> None:
    """Who logged in days ago goes on without a word."""
    runner.page("alice", WIRE2)
    earlier = epoch_of(runner, 3)
    record: Any = runner.client.hget(runner.keys.user("alice"), "node")
    sockets, version, floor, _, first = record.split()
    record = b" ".join((sockets, version, floor, earlier.encode(), first))
    runner.client.hset(runner.keys.user("alice"), "node", record)
    assert runner.fill(2) == Position(earlier, 2)
    assert runner.resume(Position(earlier, 0)).status == "resumed"
    assert runner.client.hexists(runner.keys.position("alice"), "w")


def test_what_was_set_aside_is_no_empty_outbox(runner: ScriptRunner) -> None:
    epoch = runner.page("alice", WIRE2).epoch
    runner.fill(3)
    runner.client.hset(runner.keys.position("alice"), "s", "what?")
    assert runner.resume(Position(epoch, 0)).status == "reset"
    runner.fill(1)
    assert runner.resume(Position(epoch, 0)).status == "reset"


def test_messages_without_a_position_are_no_empty_outbox(runner: ScriptRunner) -> None:
    epoch = runner.page("alice", WIRE2).epoch
    runner.fill(3)
    runner.client.delete(runner.keys.position("alice"))
    assert runner.resume(Position(epoch, 0)).status == "reset"


@pytest.mark.parametrize("then", ["a message", "a login", "a purge"])
@pytest.mark.parametrize("damage", ["a position of another form", "no position", "another type", "no entry"])
def test_what_begins_behind_a_loss_outlives_the_positions_of_before(
    runner: ScriptRunner, damage: str, then: str
) -> None:
    """Otherwise their day would identify them again, and the loss of messages would stay unknown."""
    runner.page("alice", WIRE2)
    short = KEEP._replace(ttl=1.0)
    runner.fill(3, retention=short)
    position, outbox = runner.keys.position("alice"), runner.keys.outbox("alice")
    if damage == "a position of another form":
        runner.client.hset(position, "s", "what?")
    elif damage == "no position":
        runner.client.delete(position)
    elif damage == "another type":
        runner.client.set(outbox, "foreign")
    else:
        runner.client.lset(outbox, 0, "foreign")
        runner.forget_hints()
    if then == "a message":
        runner.fill(1, retention=short)
    elif then == "a login":
        runner.page()
    else:
        runner.run(wire.purge(runner.keys, ["alice"])[0])
    assert runner.client.pttl(position) > (8 + 1) * DAY_MS


def test_a_fork_carries_positions_from_before_the_first_message(runner: ScriptRunner) -> None:
    epoch = runner.page("alice", WIRE2).epoch
    runner.fill(2)
    runner.restart()
    assert (page := runner.resume(Position(epoch, 0))).status == "forked"
    assert bodies(page) == [b"1", b"2"]
    page = runner.resume(Position(epoch_of(runner, 5), 0))
    assert (page.status, bodies(page)) == ("forked", [b"1", b"2"])


@pytest.mark.parametrize("forget", ["the secret", "all"])
def test_without_the_secret_positions_are_unknown(own_hand: ScriptRunner, forget: str) -> None:
    epoch = own_hand.page("alice", WIRE2).epoch
    own_hand.client.delete(own_hand.keys.secret) if forget == "the secret" else own_hand.client.flushall()
    own_hand.join()
    assert own_hand.resume(Position(epoch, 0)).status == "reset"


def test_a_secret_of_another_type_is_set_aside(runner: ScriptRunner) -> None:
    runner.client.set(runner.keys.secret, "foreign")
    assert runner.page("alice", WIRE2).epoch == epoch_of(runner)
    assert runner.client.get(runner.keys.aside(runner.keys.secret)) == b"foreign"


def test_a_redis_that_evicts_keeps_positions(own_hand: ScriptRunner) -> None:
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


def test_the_secret_ends_when_no_guest_comes_any_more(runner: ScriptRunner) -> None:
    runner.page("alice", WIRE2)
    assert 9 * DAY_MS < runner.client.pttl(runner.keys.secret) <= 10 * DAY_MS
