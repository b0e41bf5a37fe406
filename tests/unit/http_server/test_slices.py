"""Dispatches to very many ids are checked, sent and answered in slices, in their order."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from mesa_ws.backend.http.routes import DISPATCH
from mesa_ws.errors import BackendUnavailable, InvalidRecipients
from mesa_ws.http_server.slices import (
    OF_ONE,
    SLICE,
    CallersInOrder,
    dispatch_sliced,
    encode_sliced,
    prepare_sliced,
)
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.message import PROTOCOL_OPCODES
from mesa_ws.messages.receipt import Delivery, Receipt
from mesa_ws.messages.recipients import Recipients

MANY = [f"user-{n}" for n in range(5 * SLICE // 2)]


class Bus:
    """Records the ids of each call, and answers with one connection an id; fails from a call on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.calls: list[list[tuple[int, str]]] = []
        self._fails_at = fails_at

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        if len(self.calls) == self._fails_at:
            raise BackendUnavailable("Redis is away", maybe_sent=False)
        self.calls.append([(json.loads(each.body)["d"], each.message_id) for each in envelopes])
        return [
            Receipt(each.message_id, {id: Delivery(False, 1, None) for id in each.recipients.ids}, 1)
            for each in envelopes
        ]


class Turns:
    """Counts the turns that others get while a coroutine runs."""

    def __init__(self) -> None:
        self.count = 0

    async def during(self, work: Any) -> Any:
        counting = asyncio.create_task(self._run())
        try:
            return await work
        finally:
            counting.cancel()

    async def _run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


def prepared(body: object) -> Any:
    return prepare_sliced(DISPATCH.decode_body(json.dumps(body).encode()), PROTOCOL_OPCODES)


def dispatch(data: int, recipients: Any, **members: Any) -> dict[str, Any]:
    return {"message": {"d": data}, "recipients": recipients, **members}


async def send(bus: Bus, body: object) -> Any:
    return await dispatch_sliced(bus, await prepared(body))  # type: ignore[arg-type]


async def test_many_ids_are_checked_in_slices_and_sent_under_one_message_id() -> None:
    turns, bus = Turns(), Bus()
    (envelope,) = await turns.during(prepared(dispatch(1, MANY)))
    assert envelope.recipients.ids == tuple(MANY)
    assert turns.count >= 3
    turns.count = 0
    (receipt,) = await turns.during(dispatch_sliced(bus, [envelope]))  # type: ignore[arg-type]
    assert bus.calls == [[(1, envelope.message_id)]] * 3
    assert turns.count >= 3
    assert (list(receipt.deliveries), receipt.nodes) == (MANY, 1)


async def test_few_ids_are_one_call() -> None:
    bus = Bus()
    await send(bus, {"batch": [dispatch(n, MANY[:10]) for n in range(SLICE // 10)]})
    assert [len(call) for call in bus.calls] == [SLICE // 10]


async def test_a_batch_keeps_its_order_in_slices() -> None:
    bus = Bus()
    receipts = await send(
        bus, {"batch": [dispatch(n, ids) for n, ids in enumerate((["a"], MANY, [], ["a"], MANY))]}
    )
    sent = [data for call in bus.calls for data, _ in call]
    assert sent == sorted(sent)
    assert sent.count(1) == sent.count(4) == 3
    assert [len(receipt.deliveries) for receipt in receipts] == [1, len(MANY), 0, 1, len(MANY)]
    assert len({receipt.message_id for receipt in receipts}) == 5


async def test_ids_count_once_and_without_the_excluded_ones() -> None:
    excluding = [*MANY[:10], *(f"other-{n}" for n in range(2 * SLICE)), MANY[-1]]
    (envelope,) = await prepared(dispatch(1, [*MANY, *MANY[::-1]], excluding=excluding))
    assert envelope.recipients.ids == tuple(MANY[10:-1])
    (everybody,) = await prepared(dispatch(1, [*MANY, "*"], excluding=["7"]))
    assert everybody.recipients == Recipients(True, (), frozenset({"7"}))


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"recipients": [*MANY, ""]}, "recipients: expected an id of 1 to 255 bytes"),
        ({"recipients": [*MANY, 7]}, "recipients: expected an id as text, got 7 .int.; write '7'"),
        ({"recipients": [*MANY, ["a"]]}, "recipients: expected a list of ids as text, got lists"),
        ({"excluding": [*MANY, ""]}, "excluding: expected an id of 1 to 255 bytes"),
        ({"excluding": "7"}, "excluding: expected a list of ids, got the bare text '7'"),
        ({"excluding": 7}, "excluding: expected a list of ids, got 7"),
        ({"excluding": None}, "excluding: expected a list of ids, got null"),
    ],
)
async def test_one_wrong_id_of_many_is_found_before_anything_is_sent(members: Any, text: str) -> None:
    bus = Bus()
    with pytest.raises(InvalidRecipients, match=f"^{text}"):
        await send(bus, dispatch(1, MANY) | members)
    with pytest.raises(InvalidRecipients, match=rf"^batch\[1\]: {text}"):
        await send(bus, {"batch": [dispatch(1, ["a"]), dispatch(1, MANY) | members]})
    assert bus.calls == []


@pytest.mark.parametrize(("call", "maybe_sent"), [(0, False), (1, True)])
async def test_a_failure_after_the_first_slice_says_that_something_was_sent(
    call: int, maybe_sent: bool
) -> None:
    with pytest.raises(BackendUnavailable, match="Redis is away") as caught:
        await send(Bus(fails_at=call), dispatch(1, MANY))
    assert caught.value.maybe_sent == maybe_sent


async def test_the_answer_is_encoded_in_slices_and_is_the_same() -> None:
    receipts = [
        Receipt("0" * 32, {f'"{id}': Delivery(True, 0, None, ("e", 1), 2) for id in MANY}, 2),  # type: ignore[arg-type]
        Receipt("1" * 32, {}, 0),
        Receipt("2" * 32, {"a": Delivery(False, 0, "offline")}, 1),
    ]
    turns = Turns()
    expected = DISPATCH.encode_answer(receipts)
    assert await turns.during(encode_sliced(receipts)) == expected
    assert turns.count >= 2
    assert len(receipts[0].deliveries) == 0
    assert len(receipts[2].deliveries) == 1


async def test_a_dispatch_in_slices_is_overtaken_by_none_of_its_caller() -> None:
    order, bus = CallersInOrder(), Bus()

    async def call(caller: str, body: dict[str, Any]) -> None:
        request = DISPATCH.decode_body(json.dumps(body).encode())
        async with order.turn(caller, request):
            await dispatch_sliced(bus, await prepare_sliced(request, PROTOCOL_OPCODES))  # type: ignore[arg-type]

    await asyncio.gather(
        call("one", dispatch(1, MANY)),
        call("one", dispatch(2, ["a"])),
        call("one", {"batch": [dispatch(3, ["a"])] * (SLICE // OF_ONE)}),
        call("one", dispatch(4, ["a"])),
        call("other", dispatch(5, ["a"])),
        call("one", dispatch(6, ["a"], excluding=MANY)),
        call("one", dispatch(7, ["a"])),
    )
    sent = [each for call in bus.calls for each, _ in call]
    assert sent[0] == 5
    assert sent[1:] == sorted(sent[1:])
    assert set(sent) == {1, 2, 3, 4, 5, 6, 7}
