"""Orders to all nodes of a cluster that are kept until each has carried them out.

An order ends connections of ids: all that were open when it was given, or, as a *revocation*, those of users
whose login was issued before a time. A revocation is also kept for each id, for logins that come later.
"""

import math
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ..close import CloseCode, check_close
from ..errors import InvalidInput, Unsupported
from .envelope import REMEMBERED, Envelope, Retention, name_dispatch
from .receipt import Position, Receipt
from .recipients import Recipients, check_ids, check_time

RETENTION = Retention(max_messages=100_000, max_bytes=64 * 1024 * 1024, ttl=86_400.0)
"""For how long an order is kept: longer than any node with a lease is away."""

MAX_IDS = 10_000
"""Ids of one order."""


class Order(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An order, as nodes read it.

    Later versions append members; readers ignore members that they do not know.

    Attributes:
        ids: whose connections end; none for all connections but those of `excluding`.
        code: close code of these connections.
        reason: text of the close frame.
        issued_before: only logins that were issued at this time or before end, in seconds since 1970; None
            for all. A login whose time is not known ends, too.
        excluding: ids whose connections stay, where no ids are given.
    """

    ids: tuple[str, ...]
    code: int = CloseCode.NORMAL
    reason: str = ""
    issued_before: float | None = None
    excluding: tuple[str, ...] = ()

    @classmethod
    def of_event(cls, event: Envelope) -> Envelope | None:
        """Return the order that an event to end connections stands for, under the id of the event.

        None if it is another event, or has no recipients.
        """
        if event.kind != "disconnect" or not event.is_addressed:
            return None
        order = cls(event.recipients.ids, excluding=tuple(sorted(event.recipients.excluding)))
        return order._envelope(event.message_id, event.remember)

    @classmethod
    def read(cls, body: bytes) -> "Order | None":
        """Read an order; None if the bytes are not one."""
        try:
            return _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def envelope(self, idempotency_key: str | None = None) -> Envelope:
        """Return the order as it is dispatched to all nodes."""
        return self._envelope(*name_dispatch(idempotency_key))

    def concerns(self, issued_at: float | None) -> bool:
        """Whether a login that was issued at a time ends."""
        return self.issued_before is None or is_revoked(self.issued_before, issued_at)

    def _envelope(self, message_id: str, remember: float) -> Envelope:
        everybody, body = Recipients(True, (), frozenset()), msgspec.msgpack.encode(self)
        return Envelope(everybody, body, "order", message_id, RETENTION, remember or REMEMBERED)


def record_name(envelope: Envelope) -> str:
    """Return the name under which a backend remembers an envelope.

    An order is remembered for its recipients alone: neither a message with the same idempotency key nor an
    order for other ids makes it a repetition. Anything else goes by its id.
    """
    order = Order.read(envelope.body) if envelope.kind == "order" else None
    if order is None:
        return envelope.message_id
    who = msgspec.msgpack.encode((order.ids, order.excluding, order.issued_before is None))
    return f"{envelope.message_id}:{sha256(who).hexdigest()[:32]}"


def is_revoked(until: float, issued_at: float | None) -> bool:
    """Whether a login that was issued at a time is revoked; equal seconds count as before."""
    return issued_at is None or math.floor(issued_at) <= until


class OrderStatus(NamedTuple):
    """Which servers have carried out a `disconnect` or `revoke`.

    Attributes:
        done: ids of living servers that have.
        pending: ids of living servers that have not, because they are cut off; they do it before they deliver
            anything else.
    """

    done: tuple[str, ...]
    pending: tuple[str, ...]


class OrderReceipt(NamedTuple):
    """The outcome of `disconnect` or `revoke`: which servers have carried it out within a second.

    Attributes:
        message_id: names the order.
        position: its position among the orders.
        done: ids of living servers that have.
        pending: ids of living servers that have not, because they are cut off; they do it before they deliver
            anything else, and `status` tells later.
    """

    message_id: str
    position: Position
    done: tuple[str, ...]
    pending: tuple[str, ...]


def position_of(receipt: Receipt) -> Position:
    """Return the position of an order from the backend's receipt."""
    delivery = receipt.deliveries.get("*")
    if delivery is None or delivery.position is None:
        raise Unsupported(
            "orders to all nodes: expected Redis or a server of this process, on the native wire"
        )
    return delivery.position


def prepare_order(ids: Iterable[str], code: int, reason: str, issued_before: float | None = None) -> Order:
    """Check an order.

    Raises:
        InvalidRecipients: `ids` are not ids.
        InvalidInput: there are too many of them, or none, or the code, the reason or the time cannot be used.
    """
    check_time("issued_before", issued_before)
    checked = check_ids(ids)
    if not 0 < len(checked) <= MAX_IDS:
        raise InvalidInput(f"ids: expected 1 to {MAX_IDS}, got {len(checked)}")
    check_close(code, reason)
    return Order(tuple(checked), int(code), reason, issued_before)


_DECODER = msgspec.msgpack.Decoder(Order)
