"""What is asked of outboxes in Redis, and what the replies mean."""

import struct
from dataclasses import replace

import pytest

from mesa_ws.backend.importing import Legacy
from mesa_ws.backend.outbox import Acknowledgement, Entry, Page, Read, Start
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands, OutboxReply, answers, outbox_keys
from mesa_ws.backend.redis.wire import (
    broadcast_answer,
    broadcasts,
    heads,
    outbox_heads,
    peek,
    purge,
    stored,
)
from mesa_ws.messages.envelope import Retention
from mesa_ws.messages.receipt import OutboxHead, Position, Stored
from tests.script_calls import calls_of, map_of

KEYS = Keys("api")
SEAT = NodeCommands(KEYS, "node", lease=15.0, expiry=60.0, window=2.5)
AT = Position("e" * 16, 7)
OWN = (KEYS.position("a"), KEYS.outbox("a"))


def raw(message_id: bytes, body: bytes) -> bytes:
    return struct.pack(">dddB", 1000, 2000, 0, len(message_id)) + message_id + body


def test_entering_records_and_reads_in_one_call() -> None:
    (call,) = calls_of([SEAT.attach_and_read("a", (2, 9), Start("resume", AT, True), is_announced=True)])
    assert call.script.name == "attach"
    assert call.keys == (KEYS.leases, KEYS.held("node"), KEYS.graces, KEYS.signs, *outbox_keys(KEYS, ["a"]))
    assert call.args[2:] == ("a", 2, 9, 1, "resume", AT.epoch, 7, 1)


def test_entering_without_a_position_asks_from_what_is_acknowledged() -> None:
    (call,) = calls_of([SEAT.attach_and_read("a", (1, 3), Start())])
    assert call.args[2:] == ("a", 1, 3, 0, "fresh", "-", 0, 0)


@pytest.mark.parametrize("epoch", ["", "\ud800", "é", "a b", "a:b", "a,b"])
def test_an_epoch_that_no_outbox_can_have_is_not_sent(epoch: str) -> None:
    (call,) = calls_of([SEAT.attach_and_read("a", (1, 3), Start("resume", Position(epoch, 4)))])
    assert call.args[7:9] == ("-", 0)
    assert broadcasts(KEYS, Position(epoch, 4)).args == ("-", 0)


def test_reading_further_asks_about_few_ids_at_a_time_and_records_none() -> None:
    calls = calls_of(SEAT.read([Read(str(n), AT) for n in range(201)]))
    assert [len(call.keys) - 3 for call in calls] == [601, 4]
    assert calls[1].args[2:] == ("200", "", 0, 0, "read", AT.epoch, 7, 0)


def test_an_answer_is_a_page_and_who_came_online() -> None:
    reply = [[1, b"forked", b"e", 9, 7, 2, 1, 7, b"ro", raw(b"m", b"8"), raw(b"n", b"9")]]
    page = Page("forked", "e", 7, 9, 2, (Entry(8, "m", b"8"), Entry(9, "n", b"9")), 7, "ro")
    assert answers(reply) == [OutboxReply(page, True, True)]


def test_there_is_no_answer_without_a_lease() -> None:
    assert answers(0) == []


def test_acknowledging_sends_position_floor_and_version() -> None:
    some = [(Acknowledgement(str(n), AT, 5), n) for n in range(201)]
    calls = SEAT.acknowledge(some)
    assert [len(call.keys) - 1 for call in calls] == [150, 150, 150, 150, 3]
    assert calls[4].keys == (KEYS.leases, *outbox_keys(KEYS, ["200"]))
    assert calls[4].args == ("node", 2500, AT.epoch, 7, 5, 200)


def test_no_window_is_none() -> None:
    (call,) = replace(SEAT, window=0.0).acknowledge([(Acknowledgement("a", AT, 5), 1)])
    assert call.args[1] == 0


def test_messages_to_everybody_come_with_those_who_are_left_out() -> None:
    assert broadcasts(KEYS, None).args == ("", 0)
    call = broadcasts(KEYS, AT)
    assert (call.keys, call.args) == ((KEYS.broadcast_position, KEYS.broadcasts), (AT.epoch, 7))
    entry = raw(b"m", b"\0\0\0\x03\x91\xa1abody")
    page = Page("resumed", "e", 7, 8, 0, (Entry(8, "m", b"body", frozenset({"a"})),))
    assert broadcast_answer([b"resumed", b"e", 8, 7, 0, 0, b"", b"", entry]) == OutboxReply(
        page, False, False
    )


def test_heads_are_read_with_forks_and_dropped_ranges() -> None:
    calls = heads(KEYS, ["a", "b"])
    assert [(call.keys, call.args) for call in calls] == [
        ((*OWN, KEYS.position("b"), KEYS.outbox("b")), (0,))
    ]
    reply = [[b"e", 9, 6, b"d:5,c:3", b"1-2,4-4", 3], []]
    head = OutboxHead("e", 9, 6, 3, (Position("d", 5), Position("c", 3)), ((1, 2), (4, 4)))
    assert outbox_heads(["a", "b"], [reply]) == {"a": head, "b": None}


@pytest.mark.parametrize(
    ("acknowledged", "ranges", "length", "dropped"),
    [
        (0, b"", 9, ()),
        (0, b"", 0, ((1, 9),)),
        (6, b"", 3, ()),
        (6, b"", 2, ((7, 7),)),
        (2, b"3-5", 3, ((3, 5), (6, 6))),
        (2, b"3-6", 3, ((3, 6),)),
        (8, b"3-5", 0, ((3, 5), (9, 9))),
    ],
)
def test_what_left_unseen_is_dropped_too(
    acknowledged: int, ranges: bytes, length: int, dropped: tuple[tuple[int, int], ...]
) -> None:
    found = outbox_heads(["a"], [[[b"e", 9, acknowledged, b"", ranges, length]]])["a"]
    assert found is not None
    assert found.dropped == dropped


@pytest.mark.parametrize(
    ("forks", "ranges"), [(b"abc", b""), (b"a:", b""), (b"", b"5"), (b"", b"1-2-3"), (b"", b"-")]
)
def test_a_head_that_cannot_be_read_is_none_like_one_that_is_not_there(forks: bytes, ranges: bytes) -> None:
    assert outbox_heads(["a"], [[[b"e", 9, 2, forks, ranges, 4]]]) == {"a": None}


def test_many_heads_take_several_calls() -> None:
    assert [len(call.keys) for call in heads(KEYS, [str(n) for n in range(201)])] == [400, 2]


def test_a_look_shows_times_in_seconds_and_unreadable_bytes() -> None:
    assert stored([[b"e", 9, 6, b"", b"", 5, raw(b"m", b"5"), b"what?"]]) == [
        Stored(5, "m", 1.0, 2.0, b"5"),
        Stored(6, "", 0.0, 0.0, b"what?"),
    ]
    assert stored([[]]) == []


@pytest.mark.parametrize(("limit", "asked"), [(5, 5), (0, 1), (10**6, 1000)])
def test_a_look_is_bounded(limit: int, asked: int) -> None:
    call = peek(KEYS, "a", limit)
    assert (call.keys, call.args) == (OWN, (asked,))


def test_emptying_names_the_ids() -> None:
    (call,) = purge(KEYS, ["a"])
    assert (call.keys, call.args) == (OWN, ("a",))


def test_moving_names_what_was_read_and_every_message_of_it() -> None:
    call = Legacy("old", "a", b"[1,2]", [("m", b"1"), ("n", b"2")]).move(KEYS, Retention(10, 1000, 60.0), 5.0)
    assert call.keys == ("old", *OWN)
    limits = {"max_messages": 10, "max_bytes": 1000, "ttl": 60_000}
    assert map_of(call) == {"id": "a", "late": 5000, **limits, "over": 0}
    assert call.args[1:] == (b"[1,2]", "m", b"1", "n", b"2")


def test_moving_leaves_out_what_there_is_no_room_for() -> None:
    messages = [(f"m{n}", b"%d" % n) for n in range(5)]
    call = Legacy("old", "a", b"[...]", messages).move(KEYS, Retention(2, 1000, 60.0), 5.0)
    assert map_of(call)["over"] == 3
    assert call.args[2:] == ("m3", b"3", "m4", b"4")
