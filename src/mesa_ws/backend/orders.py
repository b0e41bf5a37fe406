"""Giving orders to all nodes, and waiting until they have carried them out."""

import asyncio
import time
from collections.abc import Iterable

from ..messages.envelope import Envelope
from ..messages.order import Order, OrderReceipt, position_of, prepare_order
from .base import AsyncBus, BlockingBus
from .queries import CarriedOut

PATIENCE = 1.0
"""Seconds to wait for nodes that have not carried out an order, before the receipt says so."""

PAUSE = 0.02
"""Seconds between two questions whether they have."""


def prepare_revocation(ids: Iterable[str], code: int, reason: str, issued_before: float | None) -> Order:
    """Check an order to revoke, of logins that were issued until now if no time is given.

    Raises:
        InvalidInput: as `prepare_order`.
    """
    return prepare_order(ids, code, reason, time.time() if issued_before is None else issued_before)


async def give(bus: AsyncBus, order: Envelope) -> OrderReceipt:
    """Give an order, as `Order.envelope` makes it, and return who has carried it out after a moment.

    Raises:
        BackendError: the backend did not take it.
        Unsupported: this backend has no orders.
    """
    until = time.monotonic() + PATIENCE  # over HTTP the server has waited, too
    [receipt] = await bus.dispatch([order])
    position = position_of(receipt)
    while True:
        progress = await bus.query(CarriedOut(position))
        if not progress.pending or time.monotonic() >= until:
            return OrderReceipt(receipt.message_id, position, *progress)
        await asyncio.sleep(PAUSE)


def give_blocking(bus: BlockingBus, order: Envelope) -> OrderReceipt:
    """`give` for threads."""
    until = time.monotonic() + PATIENCE
    [receipt] = bus.dispatch([order])
    position = position_of(receipt)
    while True:
        progress = bus.query(CarriedOut(position))
        if not progress.pending or time.monotonic() >= until:
            return OrderReceipt(receipt.message_id, position, *progress)
        time.sleep(PAUSE)
