"""Outboxes: what servers read and acknowledge, as values without any I/O."""

from typing import Literal, NamedTuple

from ..messages.envelope import Retention
from ..messages.receipt import Position

BROADCASTS = Retention(max_messages=10_000, max_bytes=64 * 1024 * 1024, ttl=300.0)
"""Retention of messages to everybody, independent of the retention of messages to ids."""

Mode = Literal["fresh", "resume", "top", "acknowledge"]
"""`fresh`: after the acknowledged messages. `resume`: after the client's own position. `top`: no stored
messages. `acknowledge`: no stored messages, and all of them count as received."""

PageStatus = Literal["fresh", "resumed", "forked", "reset"]
"""`fresh`: the reader gave no position. `resumed`: the page goes on after the position. `forked`: the page
goes on in a new epoch, into which the position could be carried over. `reset`: the position is not one of
this outbox, so the missing messages are not known; the page starts after the acknowledged messages."""


class Start(NamedTuple):
    """Position at which the messages of a connection begin.

    Attributes:
        mode: see `Mode`.
        position: the client's own; with `resume` only, and then None for a position that cannot be read.
        is_wire2: whether the client keeps a position of its own, so that acknowledged messages
            are worth keeping for a while.
    """

    mode: Mode = "fresh"
    position: Position | None = None
    is_wire2: bool = False


class Entry(NamedTuple):
    """Message in an outbox.

    Attributes:
        sequence: number in the outbox.
        message_id: id of the dispatch.
        body: the encoded frame.
        excluding: ids that do not get the message; only for messages to everybody.
    """

    sequence: int
    message_id: str
    body: bytes
    excluding: frozenset[str] = frozenset()


class Standing(NamedTuple):
    """What a login has to know of the orders to all nodes that were given before it.

    Attributes:
        revoked_until: logins of the id that were issued until this time are revoked, in seconds since 1970;
            None if there is no revocation.
        position: of the newest order; orders up to it were given before the login. None if there is none.
    """

    revoked_until: float | None = None
    position: Position | None = None


NO_STANDING = Standing()


class Page(NamedTuple):
    """Page of the messages of an outbox after a position.

    Attributes:
        status: relation of the page to the position.
        epoch: of this page and of all later messages.
        start: the messages of this page follow this sequence.
        top: sequence of the last message of the outbox.
        lost: number of dropped messages between the position and `start`; on a fresh page number of
            dropped messages that no client acknowledged.
        entries: in order, without holes.
        ended: with `forked`, the last sequence of the position's epoch that is valid; the store may have
            lost later messages of that epoch.
        rollback: with `forked`, names the incident in which the store may have lost messages; empty
            where it cannot have lost any.
        standing: of a login that read this page with `attach`; on a page of `read` or `broadcasts` only the
            position of the newest order.
    """

    status: PageStatus
    epoch: str
    start: int
    top: int
    lost: int
    entries: tuple[Entry, ...] = ()
    ended: int | None = None
    rollback: str = ""
    standing: Standing = NO_STANDING

    @property
    def last(self) -> int:
        """The sequence up to which this page is complete."""
        return self.start + len(self.entries)

    @property
    def has_more(self) -> bool:
        """Whether messages follow that did not fit on the page."""
        return self.last < self.top


class Read(NamedTuple):
    """Request for the page after a position that this node reached.

    Attributes:
        id: owner of the outbox.
        position: the node has read up to here.
        is_wire2: as in `Start`; an outbox that was lost has forgotten the value given there.
    """

    id: str
    position: Position
    is_wire2: bool = False


class Acknowledgement(NamedTuple):
    """Messages that the connections of one id on one node have acknowledged.

    Attributes:
        id: owner of the outbox.
        position: the highest position that one connection has reached without a missing message;
            sequence 0 if there is none.
        floor: the lowest sequence that all connections have reached.
    """

    id: str
    position: Position
    floor: int
