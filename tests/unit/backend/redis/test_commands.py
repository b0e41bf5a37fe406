"""What is asked of Redis, and what its replies mean."""

from dataclasses import replace
from typing import Any

import pytest

from mesa_ws.backend.redis.dispatch import DispatchCalls, dispatching
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands, came_online, outbox_keys
from mesa_ws.backend.redis.scripts import SCRIPTS
from mesa_ws.backend.redis.wire import NativeHandshake, count, online, online_counts
from mesa_ws.backend.redis_client.command import Call
from mesa_ws.backend.redis_wire.lease import Pulse
from mesa_ws.errors import BackendRefused
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Delivery, Position, Receipt
from tests.script_calls import calls_of, map_of

KEYS = Keys("api")
KEEP = Retention(10, 1000, 60.0)
BIG = KEEP._replace(max_bytes=10**7)
HELLO = Message(0, "hello", "HELLO")
SEAT = NodeCommands(KEYS, "node", lease=15.0, expiry=60.0)


def about(envelope: Envelope) -> tuple[str | bytes | int, ...]:
    return (KEYS.channels, envelope.kind, envelope.message_id, envelope.body)


def shared(envelope: Envelope) -> tuple[str, ...]:
    return (KEYS.leases, KEYS.counters, KEYS.done(envelope.message_id))


def calls_to_send(envelope: Envelope) -> list[Call]:
    return calls_of(DispatchCalls.of(KEYS, envelope).commands)


def test_a_message_to_ids_is_one_script_about_their_keys() -> None:
    sent = prepare(HELLO, ["a", "b"])
    (call,) = calls_to_send(sent)
    assert call.script.name == "relay_many"
    assert call.keys == (KEYS.leases, KEYS.counters, KEYS.user("a"), KEYS.user("b"))
    assert call.args == (KEYS.channels, "message", "", sent.message_id, sent.body, 2, "a", "b")


def test_a_message_with_a_key_is_one_script_about_its_record() -> None:
    sent = prepare(HELLO, ["a", "b"], idempotency_key="order 5", delivery="volatile")
    (call,) = calls_to_send(sent)
    assert call.script.name == "relay"
    assert call.keys == (*shared(sent), KEYS.user("a"), KEYS.user("b"))
    assert call.args == (*about(sent), 86_400_000, "volatile", "a", "b")


def test_a_message_to_keep_names_the_outbox_of_each_and_its_limits() -> None:
    sent = prepare(HELLO, ["a", "b"], retention=KEEP)
    (call,) = calls_to_send(sent)
    assert call.script.name == "dispatch"
    assert call.keys == (*shared(sent), *outbox_keys(KEYS, ["a", "b"]))
    assert call.args == (*about(sent), 120_000, 10, 1000, 60_000, 0, "a", "b")


def test_a_message_to_everybody_to_keep_names_their_outbox() -> None:
    sent = prepare(HELLO, "*", ["b", "a"], retention=KEEP, durability="replicated")
    (call,) = calls_to_send(sent)
    assert call.script.name == "announce"
    assert call.keys == (*shared(sent), KEYS.broadcast_position, KEYS.broadcasts)
    limits = (10_000, 64 * 1024 * 1024, 300_000, 1)
    assert call.args == (*about(sent), 120_000, *limits, b"\x92\xa1a\xa1b")


@pytest.mark.parametrize("recipients", ["*", ["a"]])
def test_a_message_with_a_key_is_remembered_for_a_day(recipients: str | list[str]) -> None:
    sent = prepare(HELLO, recipients, idempotency_key="order 5")
    (call,) = calls_to_send(sent)
    assert (call.keys[2], call.args[4]) == (KEYS.done(sent.message_id), 86_400_000)


def test_a_call_is_sent_by_the_name_of_its_script() -> None:
    sent = prepare(HELLO, [*"ab"], idempotency_key="order 5")
    (call,) = calls_to_send(sent)
    assert call.command == ("EVALSHA", call.script.sha, 5, *call.keys, *call.args)
    assert DispatchCalls.of(KEYS, sent).commands == [call.command]


def test_a_message_to_everybody_names_only_exclusions() -> None:
    sent = prepare(HELLO, "*", ["b", "a"])
    (call,) = calls_to_send(sent)
    assert (call.script.name, call.keys) == ("broadcast", shared(sent))
    assert call.args[5:] == (b"\x92\xa1a\xa1b", "")


@pytest.mark.parametrize(
    ("options", "size", "per_id", "before", "counts"),
    [
        ({"idempotency_key": "k"}, 10**6, 1, 6, [200, 200, 50]),
        ({"retention": KEEP}, 100, 3, 9, [*[50] * 9]),
        ({"retention": BIG}, 6_000, 3, 9, [*[43] * 10, 20]),
        ({"retention": BIG}, 10**6, 3, 9, [1] * 450),
    ],
)
def test_many_recipients_take_several_calls_of_one_message(
    options: dict[str, Any], size: int, per_id: int, before: int, counts: list[int]
) -> None:
    ids = [str(n) for n in range(450)]
    sent = prepare(Message(0, "x" * size), ids, **options)
    calls = calls_to_send(sent)
    assert [(len(call.keys) - 3) / per_id for call in calls] == counts
    assert {call.args[2] for call in calls} == {sent.message_id}
    assert {call.keys[2] for call in calls} == {KEYS.done(sent.message_id)}
    assert [id for call in calls for id in call.args[before:]] == ids


def test_the_calls_of_one_message_are_steps_and_those_of_several_are_not() -> None:
    ids = [str(n) for n in range(120)]
    sent = [prepare(HELLO, some, retention=KEEP) for some in (["a"], ids, ["b"], "*", ids, ids[:50])]
    assert [*dispatching(KEYS, sent).steps] == [2, 3, 7, 8]
    assert not dispatching(KEYS, sent[2:4]).steps


def test_what_was_stored_says_where_and_what_it_displaced() -> None:
    dispatch = DispatchCalls.of(KEYS, prepare(HELLO, ["a", "b", "c", "d"], retention=KEEP))
    replies = [
        [2, 1, b"", [], 4, b"e1", 2],
        [1, 1, b"", [1, 3, 1, 2, 2, 0], 9, b"e2", 0, 1, b"e3", -1, 0, b"", 1],
    ]
    receipt, corrupt, refusal = dispatch.outcome(replies)
    assert (receipt.nodes, corrupt, refusal) == (2, ["b"], b"")
    assert receipt.deliveries == {
        "a": Delivery(True, 2, None, Position("e1", 4), 0),
        "b": Delivery(True, 0, None, Position("e2", 9), 3),
        "c": Delivery(True, 0, None, Position("e3", 1), 2),
        "d": Delivery(False, 1, None),
    }


def test_what_was_stored_for_everybody_has_no_deliveries() -> None:
    dispatch = DispatchCalls.of(KEYS, prepare(HELLO, retention=KEEP))
    replies = [[3, 0, 12, b"e", 1, b""]]
    receipt = Receipt(dispatch.envelope.message_id, {}, 3)
    assert dispatch.outcome(replies) == (receipt, ["*"], b"")


def test_a_batch_waits_for_the_replicas_of_what_asked_for_them(caplog: pytest.LogCaptureFixture) -> None:
    envelopes = [
        prepare(HELLO, ["a"], retention=KEEP, durability="replicated"),
        prepare(HELLO, ["a"], retention=KEEP),
        prepare(HELLO, ["a"]),
    ]
    stored = [[0, 2, b"", [], 1, b"e", 0], [0, 5, b"", [1, 0, 1], 2, b"e", 0], [0, 0]]
    batch = dispatching(KEYS, envelopes)
    assert batch.proof is not None
    assert batch.proof.replicas(stored) == 2
    batch.read(stored)
    assert [record.args for record in caplog.records] == [("a", KEYS.set_aside("a"))]


def test_a_receipt_says_for_each_id_where_its_message_went() -> None:
    dispatch = DispatchCalls.of(KEYS, prepare(HELLO, ["away", "one", "many", "before", "here"]))
    receipt, *_ = dispatch.outcome([[2, 0, 1, 3, 0, 1, b"", b"", b"", b"e:7", b"0"]])
    assert receipt.nodes == 2
    assert receipt.deliveries == {
        "away": Delivery(stored=False, online=0, dropped="offline"),
        "one": Delivery(stored=False, online=1, dropped=None),
        "many": Delivery(stored=False, online=3, dropped=None),
        "before": Delivery(stored=True, online=0, dropped=None, position=Position("e", 7)),
        "here": Delivery(stored=False, online=1, dropped=None),
    }


def test_replies_to_several_calls_become_one_receipt() -> None:
    ids = [str(n) for n in range(201)]
    receipt, *_ = DispatchCalls.of(KEYS, prepare(HELLO, ids)).outcome([[2, *[1] * 200], [1, 0]])
    assert receipt.nodes == 2
    assert list(receipt.deliveries) == ids
    assert receipt.deliveries["200"] == Delivery(False, 0, "offline")


def test_a_corrupt_key_is_reported_for_its_id_alone() -> None:
    receipt, *_ = DispatchCalls.of(KEYS, prepare(HELLO, ["a", "b", "c"])).outcome([[1, 2, -1, 0]])
    assert [delivery.dropped for delivery in receipt.deliveries.values()] == [None, "corrupt", "offline"]
    assert [delivery.online for delivery in receipt.deliveries.values()] == [2, 0, 0]


def test_a_message_to_everybody_has_no_deliveries() -> None:
    receipt, *_ = DispatchCalls.of(KEYS, prepare(HELLO)).outcome([7])
    assert (receipt.deliveries, receipt.nodes) == ({}, 7)


def test_each_message_of_a_batch_gets_its_own_replies() -> None:
    many = [str(n) for n in range(201)]
    batch = dispatching(KEYS, [prepare(HELLO, ids) for ids in (["a"], [], many, "*")])
    assert len(batch.commands) == 4
    receipts = batch.read([[1, 1], [1, *[1] * 200], [1, 1], 3])
    assert [receipt.nodes for receipt in receipts] == [1, 0, 1, 3]
    assert [len(receipt.deliveries) for receipt in receipts] == [1, 0, 201, 0]


def test_the_first_of_several_refusals_is_told() -> None:
    ids = [str(n) for n in range(201)]
    stored = [value for n in range(200) for value in (n, b"e", 0)]
    replies = [[1, 0, b"one", [], *stored], [0, 0, b"two", [], 7, b"e", 0]]
    receipt, _, refusal = DispatchCalls.of(KEYS, prepare(HELLO, ids, retention=KEEP)).outcome(replies)
    assert (receipt.nodes, len(receipt.deliveries), refusal) == (1, 201, b"one")


@pytest.mark.parametrize("retentions", [(KEEP, None), (None, KEEP)])
def test_a_batch_is_repeated_only_if_redis_knows_all_of_it_again(
    retentions: tuple[Retention | None, ...],
) -> None:
    batch = dispatching(KEYS, [prepare(HELLO, ["a"], retention=each) for each in retentions])
    assert not batch.is_repeatable
    assert dispatching(KEYS, [prepare(HELLO, ["a"], retention=KEEP)] * 2).is_repeatable


def test_counting_asks_about_few_ids_at_a_time() -> None:
    calls = online(KEYS, [str(n) for n in range(201)])
    assert [len(call.keys) for call in calls] == [201, 2]


def test_ids_are_counted_without_reading_them() -> None:
    assert count(KEYS) == ("ZCOUNT", KEYS.graces, "+inf", "+inf")


def test_a_corrupt_key_counts_as_nobody() -> None:
    assert online_counts(["a", "b", "c"], [[2, -1], [1]]) == {"a": 2, "b": 0, "c": 1}


def test_durations_are_sent_in_milliseconds_and_never_as_none() -> None:
    heartbeat, *_ = replace(SEAT, lease=0.0001).heartbeat(join=True, connections=3, runs=("a", "b"))
    assert map_of(heartbeat) == {
        "node": "node",
        "lease": 1,
        "expiry": 60_000,
        "join": True,
        "channels": KEYS.channels,
        "connections": 3,
        "watches_portals": False,
        "run": "a",
        "reported": "b",
    }


def test_a_lost_lease_is_a_pulse_without_one() -> None:
    assert (Pulse.of([0]), Pulse.of([1, 3, 2])) == (Pulse(False), Pulse(True, 3, 2))


def test_attaching_sends_sockets_and_version_of_each_id() -> None:
    (call,) = calls_of([SEAT.attach({"a": (2, 7), "b": (1, 8)}, announced={"b"})])
    assert call.keys == (
        KEYS.leases,
        KEYS.held("node"),
        KEYS.graces,
        KEYS.signs,
        *outbox_keys(KEYS, ["a", "b"]),
    )
    assert call.args[:2] == ("node", 60_000)
    assert call.args[2:] == ("a", 2, 7, 0, "", "", 0, 0, "b", 1, 8, 1, "", "", 0, 0)


def test_an_id_comes_online_once_and_only_with_a_lease() -> None:
    assert came_online(["a", "b"], [[1], [0]]) == ["a"]
    assert came_online(["a"], 0) is None


def test_an_id_that_leaves_gets_a_grace_unless_its_node_died() -> None:
    (call,) = calls_of([SEAT.detach(["a"], 7)])
    assert call.args == ("node", 7, 60_000, 5000, "a")
    found = [map_of(call) for call in (SEAT.leave(), SEAT.reap())]
    assert [(each["node"], each["grace"]) for each in found] == [("node", 5000), ("", 0)]


def test_a_connection_loads_every_script_and_asks_for_the_layout() -> None:
    *_, layout, _ = commands = NativeHandshake(KEYS).commands
    assert [command[2] for command in commands if command[:2] == ("SCRIPT", "LOAD")] == [
        script.source for script in SCRIPTS
    ]
    assert layout == ("HGET", KEYS.meta, "partitions")


@pytest.mark.parametrize("found", [None, b"1"])
def test_a_new_cluster_and_one_of_this_layout_are_fine(found: bytes | None) -> None:
    NativeHandshake(KEYS).check_own("redis", [found])


def test_a_cluster_of_another_layout_is_refused_naming_both() -> None:
    with pytest.raises(BackendRefused, match=r"with 64 partitions, and this one uses 1;"):
        NativeHandshake(KEYS).check_own("redis", [b"64"])
