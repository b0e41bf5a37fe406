"""Dispatches to very many ids, in slices that leave the event loop to others in between.

Checking an id, making its part of a command, reading its reply and writing its receipt takes some
microseconds; for 200 000 ids that is a second. So the ids of one request are checked in slices, then
dispatched in slices under one message id, one after another, and the answer is encoded in slices. A
request of few ids is one slice, and waits for nothing but the backend.
"""

import asyncio
from collections.abc import AsyncIterator, Container, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from ..backend.base import AsyncBus
from ..backend.http.dispatch_schema import DeliveryForm, DispatchBody, DispatchRequest, given_ids, in_batch
from ..errors import BackendError
from ..messages.envelope import Envelope
from ..messages.receipt import Receipt
from ..messages.recipients import Recipients

SLICE = 1000
"""Ids of one slice: a few milliseconds of work, and one command of Redis."""

OF_ONE = 10
"""Ids that a dispatch of a batch counts for at least."""


class CallersInOrder:
    """Lets no dispatch of a caller overtake an earlier one of the same caller that is made in slices.

    A dispatcher sends one after another, but gives up one that takes too long, and sends the next.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, caller: Hashable, request: DispatchRequest) -> AsyncIterator[None]:
        """Stay inside while a request is prepared and dispatched; entered after earlier long ones."""
        lock = self._locks.get(caller)
        if _is_in_slices(request):
            if lock is None:
                lock = self._locks[caller] = asyncio.Lock()
            async with lock:
                yield
            return
        if lock is not None:
            async with lock:  # the next one goes on in another turn of the loop, after this one has begun
                pass
        yield


def _is_in_slices(request: DispatchRequest) -> bool:
    load = 0
    for dispatch in request.dispatches():
        lists = [each for each in (dispatch.recipients, dispatch.excluding) if isinstance(each, list)]
        load += max(OF_ONE, *map(len, lists)) if lists else OF_ONE
    return load >= SLICE


async def prepare_sliced(request: DispatchRequest, reserved: Container[int]) -> list[Envelope]:
    """Check all dispatches of a request, and return their envelopes in order.

    Raises:
        InvalidInput: the first error, as `DispatchRequest.envelopes` has it.
    """
    envelopes = []
    load = 0
    for index, dispatch in enumerate(request.dispatches()):
        with in_batch(None if request.batch is None else index):
            if _is_long(dispatch.recipients):
                envelopes.append(await _prepare_long(dispatch, reserved))
            else:
                envelopes.append(dispatch.envelope(reserved))
        load += max(OF_ONE, len(envelopes[-1].recipients.ids))
        if load >= SLICE:
            load = 0
            await asyncio.sleep(0)
    return envelopes


async def dispatch_sliced(bus: AsyncBus, envelopes: Sequence[Envelope]) -> list[Receipt]:
    """Dispatch envelopes in their order, at most `SLICE` ids at once, and return their receipts.

    Raises:
        BackendError: the backend failed; `maybe_sent` is true after the first slice.
    """
    if sum(len(envelope.recipients.ids) for envelope in envelopes) <= SLICE:
        return await bus.dispatch(envelopes)
    receipts: list[Receipt] = []
    for number, group in enumerate(_groups(envelopes)):
        try:
            given = await bus.dispatch([envelope for _, envelope in group])
        except BackendError as error:
            if number == 0 or error.maybe_sent:
                raise
            raise type(error)(error.problem, maybe_sent=True) from error
        for (index, _), receipt in zip(group, given, strict=True):
            if index == len(receipts):
                receipts.append(receipt)
            else:
                message_id, deliveries, nodes = receipts[index]
                deliveries.update(receipt.deliveries)  # type: ignore[attr-defined]
                receipts[index] = Receipt(message_id, deliveries, max(nodes, receipt.nodes))
        await asyncio.sleep(0)
    return receipts


async def encode_sliced(receipts: Sequence[Receipt]) -> bytes:
    """Encode the answer to a dispatch. Of many deliveries each slice is forgotten when it is encoded."""
    written = []
    for receipt in receipts:
        deliveries: Any = receipt.deliveries
        if len(deliveries) <= SLICE:
            deliveries = dict(deliveries)
        parts = [
            msgspec.json.encode({id: DeliveryForm(*deliveries.pop(id)) for id in some})[1:-1]
            async for some in _slices(tuple(deliveries))
        ]
        written.append(
            b'{"message_id":%b,"deliveries":{%b},"nodes":%d}'
            % (msgspec.json.encode(receipt.message_id), b",".join(parts), receipt.nodes)
        )
        if len(parts) > 1:
            await asyncio.sleep(0)
    return b'{"receipts":[%b]}' % b",".join(written)


def _is_long(recipients: Any) -> bool:
    return isinstance(recipients, list) and len(recipients) > SLICE and "*" not in recipients


async def _prepare_long(dispatch: DispatchBody, reserved: Container[int]) -> Envelope:
    """Check a dispatch to very many ids; the first slice of them goes with all the rest."""
    first = msgspec.structs.replace(dispatch, recipients=dispatch.recipients[:SLICE], excluding=msgspec.UNSET)
    envelope = first.envelope(reserved)
    without: set[str] = set()
    excluding = given_ids("excluding", dispatch.excluding, ())
    if not isinstance(excluding, list):
        Recipients.of("*", excluding)  # says what is wrong with it, unless it is absent
    async for some in _slices(excluding):
        without |= Recipients.of("*", some).excluding
    ids: dict[str, None] = {}
    async for some in _slices(dispatch.recipients):
        checked = Recipients.of(given_ids("recipients", some, ())).ids
        ids.update((id, None) for id in checked if id not in without)
    return msgspec.structs.replace(envelope, recipients=Recipients(False, tuple(ids), frozenset()))


def _groups(envelopes: Sequence[Envelope]) -> Iterator[list[tuple[int, Envelope]]]:
    """Yield slices: parts of envelopes, in order, with the index of the envelope."""
    group: list[tuple[int, Envelope]] = []
    load = 0
    for index, envelope in enumerate(envelopes):
        ids = envelope.recipients.ids
        for start in range(0, max(1, len(ids)), SLICE):
            some = ids[start : start + SLICE]
            if load + len(some) > SLICE:
                yield group
                group, load = [], 0
            part = msgspec.structs.replace(envelope.recipients, ids=some)
            group.append((index, msgspec.structs.replace(envelope, recipients=part)))
            load += len(some)
    yield group


async def _slices(items: Iterable[Any]) -> AsyncIterator[list[Any]]:
    """Yield slices, and give others their turn between two of them."""
    rest = iter(items)
    some = list(islice(rest, SLICE))
    while some:
        yield some
        some = list(islice(rest, SLICE))
        if some:
            await asyncio.sleep(0)
