"""Messages to everybody in Redis: kept for minutes, for clients that keep a position."""

import pytest

from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import ScriptRunner, bodies


def announce(runner: ScriptRunner, *texts: bytes) -> None:
    for text in texts:
        assert runner.dispatch("*", text).nodes == 1


def test_who_has_no_position_learns_where_the_newest_is(runner: ScriptRunner) -> None:
    announce(runner, b"1", b"2")
    page = runner.broadcasts().page
    assert (page.status, page.start, page.top, page.entries) == ("fresh", 2, 2, ())


def test_there_is_a_position_before_the_first_message(runner: ScriptRunner) -> None:
    page = runner.broadcasts().page
    announce(runner, b"1")
    assert bodies(runner.broadcasts(Position(page.epoch, page.top)).page) == [b"1"]


def test_what_was_missed_is_read_with_its_exclusions(runner: ScriptRunner) -> None:
    announce(runner, b"1")
    epoch = runner.broadcasts().page.epoch
    runner.dispatch("*", b"2", excluding=["bob", "alice"])
    page = runner.broadcasts(Position(epoch, 0)).page
    assert [(entry.sequence, entry.body) for entry in page.entries] == [(1, b"1"), (2, b"2")]
    assert [entry.excluding for entry in page.entries] == [frozenset(), frozenset({"alice", "bob"})]


def test_what_left_is_lost(runner: ScriptRunner) -> None:
    announce(runner, b"1", b"2", b"3", b"4")
    runner.client.ltrim(runner.keys.broadcasts, 2, -1)
    epoch = runner.broadcasts().page.epoch
    page = runner.broadcasts(Position(epoch, 1)).page
    assert (page.status, page.start, page.lost, bodies(page)) == ("resumed", 2, 1, [b"3", b"4"])


def test_what_ended_its_life_is_lost(runner: ScriptRunner) -> None:
    announce(runner, b"1", b"2")
    runner.age(0, expires=1, id="*")
    epoch = runner.broadcasts().page.epoch
    page = runner.broadcasts(Position(epoch, 0)).page
    assert (page.start, page.lost, bodies(page)) == (1, 1, [b"2"])


@pytest.mark.parametrize("position", [Position("0" * 16, 0), Position("", 0), Position("0" * 16, -1)])
def test_a_position_that_was_never_given_out_is_reset_to_the_top(
    runner: ScriptRunner, position: Position
) -> None:
    announce(runner, b"1", b"2")
    page = runner.broadcasts(position).page
    assert (page.status, page.start, page.lost, page.entries) == ("reset", 2, 0, ())


def test_a_new_run_forks(runner: ScriptRunner) -> None:
    announce(runner, b"1", b"2")
    before = runner.broadcasts().page
    runner.restart("*")
    page = runner.broadcasts(Position(before.epoch, 1)).page
    assert (page.status, page.start, bodies(page)) == ("forked", 1, [b"2"])
    assert page.rollback


def test_nothing_of_it_is_counted_as_dropped(runner: ScriptRunner) -> None:
    announce(runner, b"1", b"2")
    runner.age(0, expires=1, id="*")
    announce(runner, b"3")
    assert runner.broadcasts().page.top == 3
    assert runner.client.hmget(runner.keys.broadcast_position, "d", "x") == [None, None]


@pytest.mark.parametrize("body", [b"", b"\0\0\0\x09abc", b"\0\0\0\x01\xc1", b"\0\0\0\x01\x05"])
def test_an_entry_that_mesa_did_not_write_sets_all_aside(runner: ScriptRunner, body: bytes) -> None:
    announce(runner, b"1")
    epoch = runner.broadcasts().page.epoch
    raw = runner.ask("LINDEX", runner.keys.broadcasts, 0)
    runner.ask("LSET", runner.keys.broadcasts, 0, raw[: 25 + raw[24]] + body)
    answer = runner.broadcasts(Position(epoch, 0))
    assert (answer.is_corrupt, answer.page.status, answer.page.entries) == (True, "reset", ())
    assert runner.client.exists(runner.keys.set_aside("*")) == 1
