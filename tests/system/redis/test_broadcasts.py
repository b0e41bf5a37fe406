"""Messages to everybody in Redis: kept for minutes, for clients that keep a position."""

from collections.abc import Iterator

import pytest
import redis

from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import Hand, bodies


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand


def announce(hand: Hand, *texts: bytes) -> None:
    for text in texts:
        assert hand.dispatch("*", text).nodes == 1


def test_who_has_no_position_learns_where_the_newest_is(hand: Hand) -> None:
    announce(hand, b"1", b"2")
    page = hand.broadcasts().page
    assert (page.status, page.start, page.top, page.entries) == ("fresh", 2, 2, ())


def test_there_is_a_position_before_the_first_message(hand: Hand) -> None:
    page = hand.broadcasts().page
    announce(hand, b"1")
    assert bodies(hand.broadcasts(Position(page.epoch, page.top)).page) == [b"1"]


def test_what_was_missed_is_read_with_its_exclusions(hand: Hand) -> None:
    announce(hand, b"1")
    epoch = hand.broadcasts().page.epoch
    hand.dispatch("*", b"2", excluding=["bob", "alice"])
    page = hand.broadcasts(Position(epoch, 0)).page
    assert [(entry.sequence, entry.body) for entry in page.entries] == [(1, b"1"), (2, b"2")]
    assert [entry.excluding for entry in page.entries] == [frozenset(), frozenset({"alice", "bob"})]


def test_what_left_is_lost(hand: Hand) -> None:
    announce(hand, b"1", b"2", b"3", b"4")
    hand.client.ltrim(hand.keys.broadcasts, 2, -1)
    epoch = hand.broadcasts().page.epoch
    page = hand.broadcasts(Position(epoch, 1)).page
    assert (page.status, page.start, page.lost, bodies(page)) == ("resumed", 2, 1, [b"3", b"4"])


def test_what_ended_its_life_is_lost(hand: Hand) -> None:
    announce(hand, b"1", b"2")
    hand.age(0, expires=1, id="*")
    epoch = hand.broadcasts().page.epoch
    page = hand.broadcasts(Position(epoch, 0)).page
    assert (page.start, page.lost, bodies(page)) == (1, 1, [b"2"])


@pytest.mark.parametrize("position", [Position("0" * 16, 0), Position("", 0), Position("0" * 16, -1)])
def test_a_position_that_was_never_given_out_is_reset_to_the_top(hand: Hand, position: Position) -> None:
    announce(hand, b"1", b"2")
    page = hand.broadcasts(position).page
    assert (page.status, page.start, page.lost, page.entries) == ("reset", 2, 0, ())


def test_a_new_run_forks(hand: Hand) -> None:
    announce(hand, b"1", b"2")
    before = hand.broadcasts().page
    hand.client.hset(hand.keys.broadcast_position, "r", "0" * 16)
    page = hand.broadcasts(Position(before.epoch, 1)).page
    assert (page.status, page.start, bodies(page)) == ("forked", 1, [b"2"])
    assert page.rollback


def test_nothing_of_it_is_counted_as_dropped(hand: Hand) -> None:
    announce(hand, b"1", b"2")
    hand.age(0, expires=1, id="*")
    announce(hand, b"3")
    assert hand.broadcasts().page.top == 3
    assert hand.client.hmget(hand.keys.broadcast_position, "d", "x") == [None, None]


@pytest.mark.parametrize("body", [b"", b"\0\0\0\x09abc", b"\0\0\0\x01\xc1", b"\0\0\0\x01\x05"])
def test_an_entry_that_mesa_did_not_write_sets_all_aside(hand: Hand, body: bytes) -> None:
    announce(hand, b"1")
    epoch = hand.broadcasts().page.epoch
    raw = hand.ask("LINDEX", hand.keys.broadcasts, 0)
    hand.ask("LSET", hand.keys.broadcasts, 0, raw[: 25 + raw[24]] + body)
    answer = hand.broadcasts(Position(epoch, 0))
    assert (answer.is_corrupt, answer.page.status, answer.page.entries) == (True, "reset", ())
    assert hand.client.exists(hand.keys.set_aside("*")) == 1
