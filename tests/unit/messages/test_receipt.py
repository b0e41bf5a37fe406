"""What has become of a message, told from the heads of outboxes."""

import pickle
from typing import Any

import pytest

from mesa_ws.errors import InvalidInput
from mesa_ws.messages.receipt import (
    Delivery,
    IdStatus,
    OutboxHead,
    Position,
    Receipt,
    Status,
    judge,
    stored_positions,
)

DROPPED = ((3, 4), (9, 9))
HEAD = OutboxHead("now", 20, 10, 6, (Position("before", 8), Position("first", 2)), DROPPED)
"""15 to 20 are there, 11 to 14 were dropped before a client had them."""


def receipt(epoch: str, sequence: int) -> Receipt:
    return Receipt("m", {"a": Delivery(True, 0, None, Position(epoch, sequence))}, 0)


@pytest.mark.parametrize(
    ("epoch", "sequence", "state"),
    [
        ("now", 20, "pending"),
        ("now", 15, "pending"),
        ("now", 14, "dropped"),
        ("now", 10, "settled"),
        ("now", 9, "dropped"),
        ("before", 8, "settled"),
        ("before", 4, "dropped"),
        ("first", 2, "settled"),
        ("now", 21, "unknown"),
        ("before", 9, "unknown"),
        ("foreign", 1, "unknown"),
    ],
)
def test_the_head_of_an_outbox_tells_what_became_of_a_message(epoch: str, sequence: int, state: str) -> None:
    [status] = judge(receipt(epoch, sequence), {"a": HEAD}).ids.values()
    assert status.state == state


def test_the_last_dropped_ranges_are_told() -> None:
    assert judge(receipt("now", 10), {"a": HEAD}).ids == {"a": IdStatus("settled", DROPPED)}


@pytest.mark.parametrize("heads", [{}, {"a": None}])
def test_an_outbox_that_is_gone_tells_nothing(heads: dict[str, None]) -> None:
    assert judge(receipt("now", 1), heads) == Status("m", {"a": IdStatus("unknown")})


def test_only_ids_that_store_the_message_are_asked_for() -> None:
    deliveries = {"a": Delivery(True, 0, None, Position("e", 1)), "b": Delivery(False, 1, None)}
    assert stored_positions(Receipt("m", deliveries, 1)) == {"a": Position("e", 1)}


def test_only_a_receipt_has_a_status() -> None:
    other: Any = ("m", {}, 0)
    with pytest.raises(InvalidInput) as caught:
        stored_positions(other)
    assert str(caught.value) == "receipt: expected what dispatch returned, got tuple"


@pytest.mark.parametrize(("states", "settled"), [([], True), (["settled", "dropped", "unknown"], True)])
def test_it_is_settled_when_nothing_can_change(states: list[str], settled: bool) -> None:
    ids = {str(at): IdStatus(state) for at, state in enumerate(states)}  # type: ignore[arg-type]
    assert Status("m", ids).is_settled is settled
    assert not Status("m", {**ids, "p": IdStatus("pending")}).is_settled


def test_a_receipt_can_be_taken_to_another_process() -> None:
    assert pickle.loads(pickle.dumps(receipt("now", 1))) == receipt("now", 1)
