"""What people and other systems do to outboxes: look into them, empty them, move 1.x into them."""

from typing import Any

import pytest

from mesa_ws.backend.importing import Legacy
from mesa_ws.backend.redis import wire
from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import KEEP, ScriptRunner, bodies

# Looking and emptying


def test_a_look_shows_the_oldest_and_changes_nothing(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(5)
    runner.acknowledge(last._replace(sequence=2))
    shown = wire.stored(runner.run(wire.peek(runner.keys, "alice", 2)))
    assert [(each.sequence, each.body) for each in shown] == [(3, b"3"), (4, b"4")]
    assert {round(each.expires - each.at, 3) for each in shown} == {60.0}
    assert runner.known_head().length == 3


def test_a_look_shows_bytes_that_nobody_can_read(runner: ScriptRunner) -> None:
    runner.fill(2)
    runner.client.lset(runner.keys.outbox("alice"), 1, "what?")
    shown = wire.stored(runner.run(wire.peek(runner.keys, "alice", 9)))
    assert [(each.message_id == "", each.body) for each in shown] == [(False, b"1"), (True, b"what?")]


def test_there_is_nothing_to_see_of_an_id_that_never_was(runner: ScriptRunner) -> None:
    assert wire.stored(runner.run(wire.peek(runner.keys, "alice", 9))) == []
    assert runner.head() is None


def test_emptying_tells_those_who_had_not_received(runner: ScriptRunner) -> None:
    runner.page()
    last = runner.fill(5)
    runner.acknowledge(last._replace(sequence=2))
    (call,) = wire.purge(runner.keys, ["alice", "nobody"])
    assert runner.run(call) == [3, 0]
    assert runner.known_head()[1:4] == (5, 5, 0)
    assert runner.known_head().dropped == ((3, 5),)
    assert runner.resume(last._replace(sequence=2)).lost == 3
    assert runner.fill(1) == Position(last.epoch, 6)


# Moving from 1.x


def legacy(runner: ScriptRunner, *messages: str) -> Legacy:
    """What 1.x keeps, put there."""
    value = f"[{','.join(messages)}]".encode()
    key = f"{runner.keys.prefix}old"
    runner.client.hset(key, "alice", value)
    runner.client.expire(key, 60)
    return Legacy(key, "alice", value, [(f"m{n}", each.encode()) for n, each in enumerate(messages)])


def move(runner: ScriptRunner, what: Legacy, retention: Any = KEEP) -> list[Any]:
    return list(runner.run(what.move(runner.keys, retention, 60.0)))


def test_what_1x_keeps_is_moved_behind_what_waits(runner: ScriptRunner) -> None:
    runner.fill(1)
    what = legacy(runner, "10", "20")
    assert move(runner, what)[:4] == [b"moved", 2, 0, 3]
    assert bodies(runner.page()) == [b"1", b"10", b"20"]
    assert runner.client.hexists(what.key, "alice") is False


def test_moving_twice_moves_once(runner: ScriptRunner) -> None:
    what = legacy(runner, "10")
    assert [move(runner, what)[0] for _ in range(2)] == [b"moved", b"none"]


def test_what_changed_since_it_was_read_is_left(runner: ScriptRunner) -> None:
    what = legacy(runner, "10")
    legacy(runner, "10", "20")
    assert move(runner, what) == [b"changed"]
    assert runner.head() is None


def test_what_a_late_writer_put_back_is_not_moved_again(runner: ScriptRunner) -> None:
    move(runner, legacy(runner, "10", "20"))
    assert move(runner, legacy(runner, "10", "20", "30"))[:4] == [b"moved", 1, 2, 3]
    assert bodies(runner.page()) == [b"10", b"20", b"30"]
    assert move(runner, legacy(runner, "10", "20", "30"))[:3] == [b"moved", 0, 3]


@pytest.mark.parametrize("messages", [["10", "200"], ["11", "20", "30"], ["10"]])
def test_other_messages_are_moved_from_their_first_on(runner: ScriptRunner, messages: list[str]) -> None:
    move(runner, legacy(runner, "10", "20"))
    assert move(runner, legacy(runner, *messages))[1:3] == [len(messages), 0]


def test_a_moved_outbox_keeps_its_limits(runner: ScriptRunner) -> None:
    move(runner, legacy(runner, *map(str, range(1000))), KEEP._replace(max_messages=10))
    assert (runner.known_head().length, runner.known_head().dropped) == (10, ((1, 990),))


def test_a_list_that_leaves_no_room_pushes_out_what_waited(runner: ScriptRunner) -> None:
    runner.fill(3)
    move(runner, legacy(runner, *map(str, range(30))), KEEP._replace(max_messages=10))
    assert (runner.known_head().length, runner.known_head().dropped) == (10, ((1, 23),))
    assert bodies(runner.page()) == [b"%d" % n for n in range(20, 30)]


@pytest.mark.parametrize(("count", "dropped"), [(15, ((1, 5),)), (25, ((1, 15),)), (40, ((1, 30),))])
def test_what_was_moved_before_counts_once_where_there_is_no_room(
    runner: ScriptRunner, count: int, dropped: Any
) -> None:
    retention = KEEP._replace(max_messages=10)
    move(runner, legacy(runner, *map(str, range(12))), retention)
    move(runner, legacy(runner, *map(str, range(count))), retention)
    assert (runner.known_head().length, runner.known_head().dropped) == (10, dropped)
    assert bodies(runner.page()) == [b"%d" % n for n in range(count - 10, count)]
