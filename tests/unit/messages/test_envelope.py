"""What nodes and dispatchers exchange."""

from typing import Any
from uuid import UUID

import pytest

from mesa_ws.errors import InvalidInput, InvalidMessage, InvalidRecipients
from mesa_ws.messages.envelope import (
    DeliveryPolicy,
    Envelope,
    IdempotencyScope,
    Latest,
    Retention,
    current_scope,
    new_message_id,
    policy_of,
    prepare,
    with_unaddressed,
)
from mesa_ws.messages.message import DispatchEvent, Message
from mesa_ws.messages.receipt import Delivery, Receipt
from mesa_ws.messages.recipients import Recipients
from mesa_ws.settings import Sync

KEEP = Retention(10, 1000, 60.0)
DISCONNECT = DispatchEvent("DISCONNECT_CLIENT")


def test_a_message_is_encoded_once_for_all_recipients() -> None:
    envelope = prepare(Message(0, {"n": 1}, "T"), ["1", "2"], ["2"])
    expected = Envelope(Recipients.of(["1"]), b'{"op":0,"d":{"n":1},"t":"T"}', "message", envelope.message_id)
    assert envelope == expected


def test_a_message_without_recipients_is_for_everybody() -> None:
    assert prepare(Message()).recipients.everybody


def test_an_event_has_no_body() -> None:
    envelope = prepare(DISCONNECT, ["1"])
    assert envelope == Envelope(Recipients.of(["1"]), b"", "disconnect", envelope.message_id)


def test_an_event_needs_its_recipients_said() -> None:
    with pytest.raises(InvalidRecipients) as caught:
        prepare(DISCONNECT)
    assert str(caught.value) == (
        "recipients: DISCONNECT_CLIENT needs them, got none; name ids, or write ['*'] to mean everybody"
    )


@pytest.mark.parametrize("everybody", ["*", ["*"], ("*", "1")])
def test_an_event_may_be_for_everybody_if_that_is_said(everybody: list[str]) -> None:
    assert prepare(DISCONNECT, everybody, ["1"]).recipients == Recipients(True, (), frozenset({"1"}))


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        prepare("hello", ["1"])  # type: ignore[arg-type]


def test_every_dispatch_has_a_name_of_its_own() -> None:
    assert new_message_id() != new_message_id()


def test_a_name_is_32_hexadecimal_digits() -> None:
    name = new_message_id()
    assert (len(name), name) == (32, f"{int(name, 16):032x}")


def test_what_is_not_kept_is_neither_stored_nor_remembered() -> None:
    envelope = prepare(Message(), ["1"])
    assert (envelope.retention, envelope.remember, envelope.durability) == (None, 0.0, "memory")


def test_what_is_kept_is_remembered_for_two_minutes() -> None:
    envelope = prepare(Message(), ["1"], retention=KEEP)
    assert (envelope.retention, envelope.remember) == (KEEP, 120.0)


def test_a_message_may_say_that_it_is_not_to_be_kept() -> None:
    assert prepare(Message(0, {}, sync=False), ["1"], retention=KEEP).retention is None


def test_an_event_is_never_kept() -> None:
    envelope = prepare(DISCONNECT, ["1"], retention=KEEP)
    assert (envelope.retention, envelope.remember) == (None, 0.0)


def test_settings_say_how_messages_are_kept() -> None:
    assert Retention.of(Sync(enabled=True, max_messages=10, max_bytes=1000, ttl=60)) == KEEP
    assert Retention.of(Sync(max_messages=10)) is None


@pytest.mark.parametrize("kept", [KEEP, None])
@pytest.mark.parametrize("message", [Message(0, 1), DISCONNECT])
def test_a_key_names_the_message_for_a_day(message: Message | DispatchEvent, kept: Retention | None) -> None:
    first, again, other = (
        prepare(message, ["1"], retention=kept, idempotency_key=key) for key in ("task-1", "task-1", "task-2")
    )
    assert first == again
    assert first.message_id != other.message_id
    assert first.remember == 86_400.0


def test_a_named_message_cannot_be_taken_for_a_random_one() -> None:
    name = prepare(Message(), ["1"], idempotency_key="x").message_id
    assert (name[0], len(name)) == ("k", 32)


@pytest.mark.parametrize(
    ("key", "got"),
    [
        ("", "0 bytes"),
        ("x" * 256, "256 bytes"),
        ("\ud800", "a lone surrogate"),
        (5, "int; write '5'"),
        (UUID(int=0), r"UUID; write str\(\.\.\.\)"),
        (b"x", "bytes"),
    ],
)
def test_a_key_that_is_no_name_is_refused(key: object, got: str) -> None:
    with pytest.raises(InvalidInput, match=f"^idempotency_key: expected text of 1 to 255 .*, got {got}$"):
        prepare(Message(), ["1"], idempotency_key=key)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["memory", "fsync", "replicated"])
def test_what_is_kept_may_ask_for_more_than_memory(level: object) -> None:
    envelope = prepare(Message(), ["1"], retention=KEEP, durability=level)  # type: ignore[arg-type]
    assert envelope.durability == level


@pytest.mark.parametrize("message", [Message(), DISCONNECT])
def test_what_is_not_kept_cannot_be_durable(message: Message | DispatchEvent) -> None:
    with pytest.raises(InvalidInput, match=r"^durability: expected 'memory' .*, got 'fsync'; turn sync on"):
        prepare(message, ["1"], durability="fsync")


def test_an_unknown_durability_is_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"^durability: expected one of memory, fsync, replicated, got 'no'$"
    ):
        prepare(Message(), ["1"], retention=KEEP, durability="no")  # type: ignore[arg-type]


def test_a_message_larger_than_an_outbox_is_refused() -> None:
    body = len(prepare(Message(0, "x"), ["1"]).body)
    assert len(prepare(Message(0, "x"), ["1"], retention=Retention(1, body, 1.0)).body) == body
    with pytest.raises(
        InvalidMessage, match=rf"expected at most {body - 1} bytes, .*, got {body}; raise Sync"
    ):
        prepare(Message(0, "x"), ["1"], retention=Retention(1, body - 1, 1.0))


def test_what_a_handler_of_an_event_sends_is_named_after_the_event() -> None:
    names = []
    for _ in range(2):
        cause = IdempotencyScope("event-1")
        token = current_scope.set(cause)
        try:
            sent = [prepare(Message(0, n), ["1"]) for n in range(2)]
        finally:
            current_scope.reset(token)
        assert cause.message_ids == [each.message_id for each in sent]
        assert [each.remember for each in sent] == [86_400.0] * 2
        names.append(cause.message_ids)
    assert names[0] == names[1]
    assert len(set(names[0])) == 2


def test_a_key_of_the_handlers_own_is_the_name() -> None:
    token = current_scope.set(cause := IdempotencyScope("event-1"))
    try:
        sent = prepare(Message(0, 1), ["1"], idempotency_key="mine")
    finally:
        current_scope.reset(token)
    assert (sent.message_id, cause.message_ids) == (prepare(Message(), idempotency_key="mine").message_id, [])


def test_receipts_stand_in_the_order_of_the_dispatches_with_those_to_no_id_among_them() -> None:
    first, second, third = (prepare(Message(0, 1), ids) for ids in ([], ["1"], []))
    of_backend = Receipt(second.message_id, {"1": Delivery(False, 1, None)}, 1)
    none = [Receipt(each.message_id, {}, 0) for each in (first, third)]
    assert with_unaddressed([first, second, third], [of_backend]) == [none[0], of_backend, none[1]]


@pytest.mark.parametrize("policy", [None, "volatile", Latest("a"), Latest("latest:volatile")])
@pytest.mark.parametrize("retention", [None, KEEP])
def test_an_envelope_has_the_policy_of_a_message_that_is_not_stored(
    policy: DeliveryPolicy | None, retention: Retention | None
) -> None:
    envelope = prepare(Message(sync=False), ["1"], retention=retention, delivery=policy)
    assert (policy_of(envelope), envelope.retention) == (policy, None)


@pytest.mark.parametrize("policy", ["volatile", Latest("a")])
def test_a_stored_message_can_have_no_policy(policy: DeliveryPolicy) -> None:
    with pytest.raises(InvalidInput, match=r"^delivery: .* is stored, got .*; .*sync=False"):
        prepare(Message(), ["1"], retention=KEEP, delivery=policy)


@pytest.mark.parametrize(
    "policy", ["", "latest", "latest:a", ("a",), True, Latest, Latest(""), Latest("x" * 256)]
)
def test_what_is_no_policy_is_refused(policy: Any) -> None:
    with pytest.raises(InvalidInput, match=r"^delivery: "):
        prepare(Message(), ["1"], delivery=policy)


def test_an_event_can_have_no_policy() -> None:
    with pytest.raises(
        InvalidInput, match=r"^delivery: expected None for DISCONNECT_CLIENT, got 'volatile'$"
    ):
        prepare(DISCONNECT, ["1"], delivery="volatile")
