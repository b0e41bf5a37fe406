"""What servers ask of outboxes, and what they are given: values, without any I/O."""

from typing import Literal, NamedTuple

from ..messages.envelope import Retention
from ..messages.receipt import Position

BROADCASTS = Retention(max_messages=10_000, max_bytes=64 * 1024 * 1024, ttl=300.0)
"""How messages to everybody are kept, whatever is said about those to ids."""

Mode = Literal["fresh", "resume", "top", "acknowledge"]
"""`fresh`: after what the id has acknowledged. `resume`: after a position of the client's.
`top`: nothing that is stored. `acknowledge`: nothing that is stored, which counts as received."""

PageStatus = Literal["fresh", "resumed", "forked", "reset"]
"""`fresh`: no position was given. `resumed`: it goes on after the position. `forked`: it goes on in
a new epoch, into which the position could be carried over. `reset`: the position is not one of
this outbox, so what is missing is not known; it starts after what was acknowledged."""


class Start(NamedTuple):
    """Where a connection's messages begin.

    Attributes:
        mode: see `Mode`.
        position: the client's own; with `resume` only, and then None for one that cannot be read.
        is_wire2: whether the client keeps a position of its own, so that acknowledged messages
            are worth keeping for a while.
    """

    mode: Mode = "fresh"
    position: Position | None = None
    is_wire2: bool = False


class Entry(NamedTuple):
    """A message in an outbox.

    Attributes:
        sequence: its number.
        message_id: names its dispatch.
        body: the encoded frame.
        excluding: ids that do not get it; only among messages to everybody.
    """

    sequence: int
    message_id: str
    body: bytes
    excluding: frozenset[str] = frozenset()


class Page(NamedTuple):
    """Messages of an outbox after a position, as many as fit.

    Attributes:
        status: how the position was understood.
        epoch: of this page and of everything later.
        start: the messages of this page follow this sequence.
        top: the last sequence there is.
        lost: messages between the position and `start` that are gone; on a fresh page those that
            nobody acknowledged.
        entries: in order, without holes.
        ended: with `forked`, the last sequence of the position's epoch that holds; what that epoch
            gave out beyond may have been forgotten.
        rollback: with `forked`, names the occasion on which messages may have been forgotten; empty
            where nothing can have been.
    """

    status: PageStatus
    epoch: str
    start: int
    top: int
    lost: int
    entries: tuple[Entry, ...] = ()
    ended: int | None = None
    rollback: str = ""

    @property
    def last(self) -> int:
        """The sequence up to which this page tells everything."""
        return self.start + len(self.entries)

    @property
    def has_more(self) -> bool:
        """Whether messages follow that did not fit."""
        return self.last < self.top


class Read(NamedTuple):
    """Asks for what follows a position that this node reached.

    Attributes:
        id: whose outbox.
        position: up to where it was read.
        is_wire2: as in `Start`; an outbox that was lost has forgotten what it was told then.
    """

    id: str
    position: Position
    is_wire2: bool = False


class Acknowledgement(NamedTuple):
    """What the connections of one id on one node have proven to have.

    Attributes:
        id: whose outbox.
        position: the highest that one of them has, and that no other message is missing before;
            sequence 0 if there is none.
        floor: the lowest sequence that all of them have.
    """

    id: str
    position: Position
    floor: int
