"""What people and other systems do to outboxes: look into them, empty them, move 1.x into them."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mesa_ws.backend.mesa1.importing import Legacy
from mesa_ws.backend.redis import wire
from mesa_ws.messages.receipt import Position
from tests.system.redis.script_runner import KEEP, Hand, bodies


@pytest.fixture
def hand(redis_url: str, namespace: str) -> Iterator[Hand]:
    with redis.Redis.from_url(redis_url) as client:
        hand = Hand(client, namespace)
        hand.join()
        yield hand


# Looking and emptying


def test_a_look_shows_the_oldest_and_changes_nothing(hand: Hand) -> None:
    hand.page()
    last = hand.fill(5)
    hand.acknowledge(last._replace(sequence=2))
    shown = wire.stored(hand.run(wire.peek(hand.keys, "alice", 2)))
    assert [(each.sequence, each.body) for each in shown] == [(3, b"3"), (4, b"4")]
    assert {round(each.expires - each.at, 3) for each in shown} == {60.0}
    assert hand.known_head().length == 3


def test_a_look_shows_bytes_that_nobody_can_read(hand: Hand) -> None:
    hand.fill(2)
    hand.client.lset(hand.keys.outbox("alice"), 1, "what?")
    shown = wire.stored(hand.run(wire.peek(hand.keys, "alice", 9)))
    assert [(each.message_id == "", each.body) for each in shown] == [(False, b"1"), (True, b"what?")]


def test_there_is_nothing_to_see_of_an_id_that_never_was(hand: Hand) -> None:
    assert wire.stored(hand.run(wire.peek(hand.keys, "alice", 9))) == []
    assert hand.head() is None


def test_emptying_tells_those_who_had_not_received(hand: Hand) -> None:
    hand.page()
    last = hand.fill(5)
    hand.acknowledge(last._replace(sequence=2))
    (call,) = wire.purge(hand.keys, ["alice", "nobody"])
    assert hand.run(call) == [3, 0]
    assert hand.known_head()[1:4] == (5, 5, 0)
    assert hand.known_head().dropped == ((3, 5),)
    assert hand.resume(last._replace(sequence=2)).lost == 3
    assert hand.fill(1) == Position(last.epoch, 6)


# Moving from 1.x


def legacy(hand: Hand, *messages: str) -> Legacy:
    """What 1.x keeps, put there."""
    value = f"[{','.join(messages)}]".encode()
    key = f"{hand.keys.prefix}old"
    hand.client.hset(key, "alice", value)
    hand.client.expire(key, 60)
    return Legacy(key, "alice", value, [(f"m{n}", each.encode()) for n, each in enumerate(messages)])


def move(hand: Hand, what: Legacy, retention: Any = KEEP) -> list[Any]:
    return list(hand.run(what.move(hand.keys, retention, 60.0)))


def test_what_1x_keeps_is_moved_behind_what_waits(hand: Hand) -> None:
    hand.fill(1)
    what = legacy(hand, "10", "20")
    assert move(hand, what)[:4] == [b"moved", 2, 0, 3]
    assert bodies(hand.page()) == [b"1", b"10", b"20"]
    assert hand.client.hexists(what.key, "alice") is False


def test_moving_twice_moves_once(hand: Hand) -> None:
    what = legacy(hand, "10")
    assert [move(hand, what)[0] for _ in range(2)] == [b"moved", b"none"]


def test_what_changed_since_it_was_read_is_left(hand: Hand) -> None:
    what = legacy(hand, "10")
    legacy(hand, "10", "20")
    assert move(hand, what) == [b"changed"]
    assert hand.head() is None


def test_what_a_late_writer_put_back_is_not_moved_again(hand: Hand) -> None:
    move(hand, legacy(hand, "10", "20"))
    assert move(hand, legacy(hand, "10", "20", "30"))[:4] == [b"moved", 1, 2, 3]
    assert bodies(hand.page()) == [b"10", b"20", b"30"]
    assert move(hand, legacy(hand, "10", "20", "30"))[:3] == [b"moved", 0, 3]


@pytest.mark.parametrize("messages", [["10", "200"], ["11", "20", "30"], ["10"]])
def test_other_messages_are_moved_from_their_first_on(hand: Hand, messages: list[str]) -> None:
    move(hand, legacy(hand, "10", "20"))
    assert move(hand, legacy(hand, *messages))[1:3] == [len(messages), 0]


def test_a_moved_outbox_keeps_its_limits(hand: Hand) -> None:
    move(hand, legacy(hand, *map(str, range(1000))), KEEP._replace(max_messages=10))
    assert (hand.known_head().length, hand.known_head().dropped) == (10, ((1, 990),))


def test_a_list_that_leaves_no_room_pushes_out_what_waited(hand: Hand) -> None:
    hand.fill(3)
    move(hand, legacy(hand, *map(str, range(30))), KEEP._replace(max_messages=10))
    assert (hand.known_head().length, hand.known_head().dropped) == (10, ((1, 23),))
    assert bodies(hand.page()) == [b"%d" % n for n in range(20, 30)]


@pytest.mark.parametrize(("count", "dropped"), [(15, ((1, 5),)), (25, ((1, 15),)), (40, ((1, 30),))])
def test_what_was_moved_before_counts_once_where_there_is_no_room(
    hand: Hand, count: int, dropped: Any
) -> None:
    retention = KEEP._replace(max_messages=10)
    move(hand, legacy(hand, *map(str, range(12))), retention)
    move(hand, legacy(hand, *map(str, range(count))), retention)
    assert (hand.known_head().length, hand.known_head().dropped) == (10, dropped)
    assert bodies(hand.page()) == [b"%d" % n for n in range(count - 10, count)]
