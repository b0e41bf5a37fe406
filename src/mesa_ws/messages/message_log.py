"""Log messages at DEBUG: their types, ids and numbers, never their data.

Types and ids are written with `repr`, so that none can forge a line. Callers that every message
passes check `log.isEnabledFor(logging.DEBUG)` first.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from .envelope import Envelope
from .receipt import Receipt
from .recipients import Recipients

_MAX_TEXT = 100
"""Characters of a type that are logged."""

_MAX_IDS = 10
"""Ids of one message that are logged."""


class _Head(msgspec.Struct):
    op: int = 0
    t: str | None = None


def named(body: bytes) -> str:
    """Return the type of an encoded message, or its opcode where it has none."""
    try:
        head = _HEAD.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "a message"
    if head.t is None:
        return f"op {head.op}"
    return repr(head.t if len(head.t) <= _MAX_TEXT else f"{head.t[:_MAX_TEXT]}...")


def log_dispatches(log: logging.Logger, envelopes: Sequence[Envelope], receipts: Iterable[Receipt]) -> None:
    """Log what was dispatched, and how far the backend brought it."""
    for envelope, receipt in zip(envelopes, receipts, strict=True):
        deliveries = receipt.deliveries.values()
        log.debug(
            "dispatch %s: %s to %s; %d connections on %d servers, stored for %d ids",
            envelope.message_id,
            named(envelope.body) if envelope.body else "a disconnection",
            _listed(envelope.recipients),
            sum(delivery.online for delivery in deliveries),
            receipt.nodes,
            sum(delivery.stored for delivery in deliveries),
        )


def log_delivery(log: logging.Logger, envelope: Envelope, connections: int) -> None:
    """Log a message that the bus brought to this node."""
    log.debug(
        "delivery %s: %s to %s; %d connections here",
        envelope.message_id,
        named(envelope.body) if envelope.body else "a disconnection",
        _listed(envelope.recipients),
        connections,
    )


def log_announcement(log: logging.Logger, message_id: str, body: bytes, connections: int) -> None:
    """Log a stored message to everybody that this node delivers."""
    log.debug("delivery %s: %s to everybody; %d connections here", message_id, named(body), connections)


def log_page(log: logging.Logger, id: str, bodies: Iterable[bytes]) -> None:
    """Log the messages that a client gets from a page of the backend."""
    types = Counter(map(named, bodies))
    if types:
        listed = ", ".join(f"{count} of {type}" for type, count in types.most_common(_MAX_IDS))
        log.debug("delivery from the backend to %r: %s", id, listed)


def _listed(recipients: Recipients) -> str:
    if recipients.everybody:
        without = len(recipients.excluding)
        return f"everybody but {without} ids" if without else "everybody"
    shown = ", ".join(map(repr, recipients.ids[:_MAX_IDS]))
    more = len(recipients.ids) - _MAX_IDS
    return f"{shown} and {more} more" if more > 0 else shown or "no ids"


_HEAD = msgspec.json.Decoder(_Head)
