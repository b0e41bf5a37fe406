"""What is asked of Redis, and what its replies mean."""

import pytest

from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.plan import (
    Batch,
    Dispatch,
    Pulse,
    Seat,
    check_handshake,
    handshake,
    online,
    online_counts,
)
from mesa_ws.backend.redis.script import SCRIPTS, Script
from mesa_ws.envelope import Delivery, prepare
from mesa_ws.errors import BackendRefused
from mesa_ws.message import Message

KEYS = Keys("api")
HELLO = Message(0, "hello", "HELLO")
SEAT = Seat(KEYS, "node", lease=15.0, expiry=60.0)


def test_a_message_to_ids_is_one_script_about_their_keys() -> None:
    sent = prepare(HELLO, ["a", "b"])
    (call,) = Dispatch.of(KEYS, sent).calls
    assert call.script.name == "dispatch"
    assert call.keys == (KEYS.leases, KEYS.counters, KEYS.user("a"), KEYS.user("b"))
    assert call.args == (KEYS.channels, 86_400_000, "message", sent.message_id, sent.body, "a", "b")


def test_a_call_is_sent_by_the_name_of_its_script() -> None:
    (call,) = Dispatch.of(KEYS, prepare(HELLO, [*"ab"])).calls
    assert call.command == ("EVALSHA", call.script.sha, 4, *call.keys, *call.args)


def test_a_message_to_everybody_names_only_exclusions() -> None:
    (call,) = Dispatch.of(KEYS, prepare(HELLO, "*", ["b", "a"])).calls
    assert (call.script.name, call.keys) == ("broadcast", (KEYS.leases, KEYS.counters))
    assert call.args[5:] == ("a", "b")


def test_many_recipients_take_several_calls_of_one_message() -> None:
    ids = [str(n) for n in range(450)]
    sent = prepare(HELLO, ids)
    calls = Dispatch.of(KEYS, sent).calls
    assert [len(call.keys) - 2 for call in calls] == [200, 200, 50]
    assert {call.args[3] for call in calls} == {sent.message_id}
    assert [id for call in calls for id in call.args[5:]] == ids


def test_replies_to_several_calls_become_one_receipt() -> None:
    ids = [str(n) for n in range(201)]
    receipt = Dispatch.of(KEYS, prepare(HELLO, ids)).receipt([[2, *[1] * 200], [1, 0]])
    assert receipt.nodes == 3
    assert list(receipt.deliveries) == ids
    assert receipt.deliveries["200"] == Delivery(False, 0, "offline")


def test_a_corrupt_key_is_reported_for_its_id_alone() -> None:
    receipt = Dispatch.of(KEYS, prepare(HELLO, ["a", "b", "c"])).receipt([[1, 2, -1, 0]])
    assert [delivery.dropped for delivery in receipt.deliveries.values()] == [None, "corrupt", "offline"]
    assert [delivery.online for delivery in receipt.deliveries.values()] == [2, 0, 0]


def test_a_message_to_everybody_has_no_deliveries() -> None:
    receipt = Dispatch.of(KEYS, prepare(HELLO)).receipt([7])
    assert (receipt.deliveries, receipt.nodes) == ({}, 7)


def test_each_message_of_a_batch_gets_its_own_replies() -> None:
    many = [str(n) for n in range(201)]
    batch = Batch.of(KEYS, [prepare(HELLO, ids) for ids in (["a"], [], many, "*")])
    assert len(batch.commands) == 4
    receipts = batch.receipts([[1, 1], [1, *[1] * 200], [1, 1], 3])
    assert [receipt.nodes for receipt in receipts] == [1, 0, 2, 3]
    assert [len(receipt.deliveries) for receipt in receipts] == [1, 0, 201, 0]


def test_counting_asks_about_few_ids_at_a_time() -> None:
    calls = online(KEYS, [str(n) for n in range(201)])
    assert [len(call.keys) for call in calls] == [201, 2]


def test_a_corrupt_key_counts_as_nobody() -> None:
    assert online_counts(["a", "b", "c"], [[2, -1], [1]]) == {"a": 2, "b": 0, "c": 1}


def test_durations_are_sent_in_milliseconds_and_never_as_none() -> None:
    heartbeat, _ = SEAT._replace(lease=0.0001).heartbeat(join=True)
    assert heartbeat.args == ("node", 1, 1, KEYS.channels, 60_000)


def test_a_lost_lease_is_a_pulse_without_one() -> None:
    assert (Pulse.of([0]), Pulse.of([1, 3])) == (Pulse(False, 0), Pulse(True, 3))


def test_attaching_sends_sockets_and_version_of_each_id() -> None:
    call = SEAT.attach({"a": (2, 7), "b": (1, 8)})
    assert call.keys == (KEYS.leases, KEYS.held("node"), KEYS.user("a"), KEYS.user("b"))
    assert call.args == ("node", 60_000, "a", 2, 7, "b", 1, 8)


def test_a_connection_loads_every_script_and_asks_for_the_layout() -> None:
    *loads, layout = handshake(KEYS)
    assert [command[2] for command in loads] == [script.source for script in SCRIPTS]
    assert layout == ("HGET", KEYS.meta, "partitions")


@pytest.mark.parametrize("found", [None, b"1"])
def test_a_new_cluster_and_one_of_this_layout_are_fine(found: bytes | None) -> None:
    check_handshake(KEYS, [b"sha", found])


def test_a_cluster_of_another_layout_is_refused_naming_both() -> None:
    with pytest.raises(BackendRefused, match=r"expected a cluster of 1 partition.* got 64;"):
        check_handshake(KEYS, [b"sha", b"64"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_declares_its_flags_first(script: Script) -> None:
    assert script.source.startswith(b"#!lua flags=")
