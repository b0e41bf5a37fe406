"""Receipts of dispatches, and the status that the outboxes of the recipients tell later."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from ..errors import InvalidInput


class Position(NamedTuple):
    """A position in the outbox of one id, or among the messages to everybody.

    Sequences of one epoch grow by one. When the backend restarts or fails over, an outbox continues
    in a new epoch, because the backend may have forgotten numbers that it gave out; so a position
    never stands for two messages.

    Attributes:
        epoch: name of a period in which numbers can be compared; no two outboxes share one.
        sequence: messages of the outbox up to and including this one; 0 before the first.
    """

    epoch: str
    sequence: int


class Delivery(NamedTuple):
    """The outcome of a dispatch for one id.

    Attributes:
        stored: whether the message is in the id's outbox. False without sync.
        online: connections of that id which it was routed to; routed is not yet received.
        dropped: why it went nowhere, such as `"offline"`, or None.
        position: its position in the outbox; None if it is not stored.
        displaced: older messages of that id which were dropped to make room for it.
    """

    stored: bool
    online: int
    dropped: str | None
    position: Position | None = None
    displaced: int = 0


class Receipt(NamedTuple):
    """The outcome of a dispatch.

    Attributes:
        message_id: names the dispatch.
        deliveries: by id; empty for a message to everybody.
        nodes: server nodes that the backend handed the message to; at least so many where there are many ids.
    """

    message_id: str
    deliveries: Mapping[str, Delivery]
    nodes: int


DeliveryState = Literal["pending", "settled", "dropped", "unknown"]
"""`pending`: the message waits in the outbox. `settled`: a connection of the id has acknowledged it.
`dropped`: it made room for later ones, or its time to live ended. `unknown`: the outbox was lost,
with all that it held."""

Range = tuple[int, int]
"""First and last sequence of messages that were dropped, both included."""


class OutboxHead(NamedTuple):
    """The state of an outbox, without its messages.

    Attributes:
        epoch: the one that new messages belong to.
        top: sequence of its last message.
        acknowledged: sequence up to which messages were acknowledged.
        length: messages in it; their sequences are the last ones up to `top`.
        forks: where earlier epochs ended, newest first.
        dropped: the last ranges of messages that were dropped before a client had them.
    """

    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...] = ()
    dropped: tuple[Range, ...] = ()


class IdStatus(NamedTuple):
    """The status of a message for one id.

    Attributes:
        state: `"pending"`, `"settled"`, `"dropped"` or `"unknown"`.
        dropped: the last ranges of the id's outbox that were dropped unreceived, to show to people.
    """

    state: DeliveryState
    dropped: tuple[Range, ...] = ()


class Status(NamedTuple):
    """The status of a message: for each id whether it is pending, settled, dropped or unknown.

    Attributes:
        message_id: names the dispatch.
        ids: by id, for those in whose outbox it was stored.
    """

    message_id: str
    ids: Mapping[str, IdStatus]

    @property
    def is_settled(self) -> bool:
        """Whether the status is final: the message is pending for no id."""
        return all(each.state != "pending" for each in self.ids.values())


def stored_positions(receipt: Receipt) -> dict[str, Position]:
    """Return the positions of a message in the outboxes of its recipients.

    Raises:
        InvalidInput: it is no receipt.
    """
    if not isinstance(receipt, Receipt):
        raise InvalidInput(f"receipt: expected what dispatch returned, got {type(receipt).__name__}")
    return {id: each.position for id, each in receipt.deliveries.items() if each.position is not None}


def judge(receipt: Receipt, heads: Mapping[str, OutboxHead | None]) -> Status:
    """Return the status of a message, from the heads of the outboxes that it was stored in."""
    positions = stored_positions(receipt)
    return Status(receipt.message_id, {id: _judged(at, heads.get(id)) for id, at in positions.items()})


def _judged(position: Position, head: OutboxHead | None) -> IdStatus:
    if head is None or not _is_held(position, head):
        return IdStatus("unknown")
    return IdStatus(_state(position.sequence, head), head.dropped)


def _is_held(position: Position, head: OutboxHead) -> bool:
    """Whether the outbox still knows that it stored the message."""
    if position.epoch == head.epoch:
        return position.sequence <= head.top
    return any(fork.epoch == position.epoch and position.sequence <= fork.sequence for fork in head.forks)


def _state(sequence: int, head: OutboxHead) -> DeliveryState:
    if any(first <= sequence <= last for first, last in head.dropped):
        return "dropped"
    if sequence <= head.acknowledged:
        return "settled"
    return "pending" if sequence > head.top - head.length else "dropped"


class Stored(NamedTuple):
    """A message that waits in an outbox.

    Attributes:
        sequence: its number.
        message_id: names its dispatch.
        at: when it was stored, in seconds of Unix time.
        expires: when it will be dropped, in seconds of Unix time.
        body: the encoded frame.
    """

    sequence: int
    message_id: str
    at: float
    expires: float
    body: bytes
