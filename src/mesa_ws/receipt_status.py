"""What has become of a dispatched message, as far as the outboxes of its recipients tell."""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from .envelope import Receipt
from .position import Position

State = Literal["pending", "settled", "dropped", "unknown"]
"""`pending`: waits in the outbox. `settled`: a connection of the id has proven to have it.
`dropped`: it made room for later ones, or outlived its time to live. `unknown`: the outbox was
lost, with all it held."""

Range = tuple[int, int]
"""First and last sequence of messages that were dropped, both included."""


class OutboxHead(NamedTuple):
    """What is known of an outbox without reading its messages.

    Attributes:
        epoch: the one that new messages belong to.
        top: sequence of its last message.
        acknowledged: sequence up to which messages were proven to be received.
        length: messages in it; their sequences are the last ones up to `top`.
        forks: where earlier epochs ended, newest first.
        dropped: the last ranges of messages that were dropped before anybody had them.
    """

    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...] = ()
    dropped: tuple[Range, ...] = ()


class IdStatus(NamedTuple):
    """What has become of a message for one id.

    Attributes:
        state: see `State`.
        dropped: the last ranges of its outbox that were dropped unreceived, for people.
    """

    state: State
    dropped: tuple[Range, ...] = ()


class Status(NamedTuple):
    """What has become of a message.

    Attributes:
        message_id: names the dispatch.
        ids: by id, for those in whose outbox it was stored.
    """

    message_id: str
    ids: Mapping[str, IdStatus]

    @property
    def is_settled(self) -> bool:
        """Whether nothing can change any more: no id has it pending."""
        return all(each.state != "pending" for each in self.ids.values())


def stored_positions(receipt: Receipt) -> dict[str, Position]:
    """Where the outboxes of a receipt's recipients hold its message."""
    return {id: each.position for id, each in receipt.deliveries.items() if each.position is not None}


def judge(receipt: Receipt, heads: Mapping[str, OutboxHead | None]) -> Status:
    """Tell what has become of a message from the heads of the outboxes that took it."""
    positions = stored_positions(receipt)
    return Status(receipt.message_id, {id: _judged(at, heads.get(id)) for id, at in positions.items()})


def _judged(position: Position, head: OutboxHead | None) -> IdStatus:
    if head is None or not _is_held(position, head):
        return IdStatus("unknown")
    return IdStatus(_state(position.sequence, head), head.dropped)


def _is_held(position: Position, head: OutboxHead) -> bool:
    """Whether the outbox has not forgotten that it took the message."""
    if position.epoch == head.epoch:
        return position.sequence <= head.top
    return any(fork.epoch == position.epoch and position.sequence <= fork.sequence for fork in head.forks)


def _state(sequence: int, head: OutboxHead) -> State:
    if _is_within(sequence, head.dropped):
        return "dropped"
    if sequence <= head.acknowledged:
        return "settled"
    return "pending" if sequence > head.top - head.length else "dropped"


def _is_within(sequence: int, ranges: Iterable[Range]) -> bool:
    return any(first <= sequence <= last for first, last in ranges)
