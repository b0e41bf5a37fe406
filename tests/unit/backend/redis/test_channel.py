"""Frames on a node's channel."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesa_ws.backend.redis.channel import Channel, InvalidNodeFrame, read_frame
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.receipt import Position
from mesa_ws.messages.recipients import Recipients


def frame(*members: object, body: bytes = b"") -> bytes:
    head = msgspec.msgpack.encode(members)
    return len(head).to_bytes(4, "big") + head + body


def counted(counter: int, kind: str = "message") -> bytes:
    return frame(counter, kind, "m", ["a"], [])


def missing(*frames: bytes) -> list[int]:
    """Return how many frames a node misses before each of those that arrive."""
    channel = Channel(lambda envelope: None, ["a"], lambda ids: None, *[lambda: None] * 3)
    lost = [0]
    for each in frames:
        channel.on_frame(each)
        lost.append(channel.lost)
    return [after - before for before, after in pairwise(lost)]


def test_a_hint_is_the_envelope_that_was_sent() -> None:
    head, envelope = read_frame(frame(7, "message", "m", ["a", "b"], [], body=b'{"op":0}'))
    assert head.counter == 7
    assert envelope == Envelope(Recipients(False, ("a", "b"), frozenset()), b'{"op":0}', "message", "m")


def test_a_hint_says_where_each_outbox_has_it() -> None:
    _, envelope = read_frame(frame(1, "message", "m", ["a", "b"], [], ["e1", 4, "e2", 9]))
    assert envelope.positions == (Position("e1", 4), Position("e2", 9))


def test_a_hint_for_everybody_says_where_they_all_find_it() -> None:
    assert read_frame(frame(1, "message", "m", "*", [], ["e", 4]))[1].positions == (Position("e", 4),)


@pytest.mark.parametrize("members", [[], ["*", "b"], ["*"]])
def test_what_is_not_stored_has_no_positions(members: list[str]) -> None:
    assert read_frame(frame(1, "message", "m", members or "*", [], []))[1].positions == ()


def test_a_hint_for_everybody_carries_the_exclusions() -> None:
    assert read_frame(frame(1, "message", "m", "*", ["b"]))[1].recipients == Recipients(
        True, (), frozenset({"b"})
    )


@pytest.mark.parametrize(
    ("member", "policy"),
    [("volatile", "volatile"), ("latest:a", "latest:a"), ("", ""), ("later", ""), ({"later": 1}, "")],
)
def test_a_hint_says_what_may_happen_to_the_message_for_slow_clients(member: object, policy: str) -> None:
    _, envelope = read_frame(frame(1, "message", "m", ["a"], [], [], member, body=b'{"op":0}'))
    assert (envelope.delivery, envelope.body) == (policy, b'{"op":0}')


def test_members_of_later_versions_are_passed_over() -> None:
    assert read_frame(frame(1, "marker", "", [], [], [], {"later": 1}, 2))[0].kind == "marker"


@pytest.mark.parametrize(
    "bytes",
    [
        b"",
        b"\0\0\0",
        b"hello, is it me you are looking for",
        b"\0\0\0\0",
        b"\0\0\0\5\x95",
        b"\0\0\0\x20" + frame(1, "message", "m", ["a"], [])[4:],
        frame(),
        frame(1, "message", "m", ["a"]),
        frame("1", "message", "m", ["a"], []),
        frame(1, "surprise", "m", ["a"], []),
        frame(1, "message", "m", "everybody", []),
        frame(1, "message", "m", [1], []),
        frame(1, "message", "m", ["a"], [], "e"),
        frame(1, "message", "m", ["a"], [], ["e"]),
        frame(1, "message", "m", ["a"], [], [4, "e"]),
        frame(1, "message", "m", ["a"], [], ["e", "4"]),
        frame(1, "message", "m", ["a", "b"], [], ["e", 4]),
        frame(1, "message", "m", "*", [], ["e", 4, "e", 5]),
        frame(1, "message", b"\xff\xff", ["a"], []),
        b"\0\0\x27\x10" + b"\x91" * 10_000,
    ],
)
def test_what_is_no_frame_is_refused(bytes: bytes) -> None:
    with pytest.raises(InvalidNodeFrame):
        read_frame(bytes)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_refused(bytes: bytes) -> None:
    try:
        read_frame(bytes)
    except InvalidNodeFrame:
        return


def test_consecutive_counters_lose_nothing() -> None:
    assert missing(*map(counted, (5, 6, 7))) == [0, 0, 0]


def test_a_jump_says_how_many_are_missing() -> None:
    assert missing(*map(counted, (5, 9, 10))) == [0, 3, 0]


def test_a_marker_repeats_the_counter_of_the_last_hint() -> None:
    frames = [counted(5), counted(5, "marker"), counted(6), counted(8, "marker"), counted(9)]
    assert missing(*frames) == [0, 0, 0, 2, 0]


def test_a_counter_that_falls_begins_anew() -> None:
    assert missing(*map(counted, (50, 1, 2, 4))) == [0, 0, 0, 1]


def test_a_gap_and_a_counter_that_falls_are_reported() -> None:
    gaps: list[int] = []
    number = 0
    channel = Channel(
        lambda envelope: None,
        ["a"],
        lambda ids: None,
        lambda: gaps.append(number),
        *[lambda: None] * 2,
    )
    for number in (5, 6, 9, 1, 2):
        channel.on_frame(counted(number))
    assert gaps == [9, 1]


def test_a_marker_tells_that_messages_skipped_the_node() -> None:
    missed: list[None] = []
    others = (lambda envelope: None, ["a"], lambda ids: None, lambda: None)
    channel = Channel(*others, on_missed=lambda: missed.append(None), on_failure=lambda: None)
    counts = []
    for name in ("missed", "", "missed", ""):  # the first one is that of the start
        channel.on_frame(frame(5, "marker", name, [], []))
        counts.append(len(missed))
    assert counts == [0, 0, 1, 1]


def test_ids_that_the_node_does_not_hold_are_reported() -> None:
    unknown: list[list[str]] = []
    channel = Channel(lambda envelope: None, {"a", "c"}, unknown.append, *[lambda: None] * 3)
    channel.on_frame(frame(1, "message", "m", ["a", "b", "c"], []))
    channel.on_frame(frame(2, "message", "m", ["c"], []))
    channel.on_frame(frame(3, "connection", "m", ["d"], []))
    assert unknown == [["b"]]
