"""Track the client's positions, as the server tells them (spec section 17).

Messages of an outbox, and messages to everybody, are numbered; a *position* is an epoch and a number
in it. The server names a position when it accepts the client, or when it continues from another
position, and each message that follows moves it by one. So the client recognizes what it received
before, and knows what is missing.
"""

from typing import Any, NamedTuple, Self

import msgspec

from ..messages.frames import Frame
from ..messages.message import Message
from ..messages.receipt import Position
from .resume import read_position


class Positions(NamedTuple):
    """A client's positions in its outbox and among the messages to everybody; None if not known."""

    outbox: Position | None = None
    broadcasts: Position | None = None

    def completed(self, other: Self) -> Self:
        """Return these positions, completed by those of `other` where one is not known."""
        return type(self)(self.outbox or other.outbox, self.broadcasts or other.broadcasts)

    def members(self) -> dict[str, Any]:
        """Write them as the member `resume` of an op 2."""
        members: dict[str, Any] = {}
        if self.outbox is not None:
            members |= _members(self.outbox)
        if self.broadcasts is not None:
            members["b"] = _members(self.broadcasts)
        return members

    def encode(self) -> bytes:
        """Encode them as bytes for storage."""
        return msgspec.json.encode(self.members())

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """Decode what `encode` returned; None for anything else."""
        try:
            members = msgspec.json.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):  # also of no bytes
            return None
        outbox, broadcasts = read_position(members), None
        if isinstance(members, dict):
            broadcasts = read_position(members.get("b"))
        return cls(outbox, broadcasts) if outbox or broadcasts else None


NOWHERE = Positions()
"""Positions of a client that the server has told nothing yet."""


class Lost(NamedTuple):
    """Messages are lost: this client should have got them, and never will.

    Attributes:
        number: how many.
        is_announced: whether the server reported them; if not, it skipped them silently.
    """

    number: int
    is_announced: bool = True


class Forked(NamedTuple):
    """The server's store came back, perhaps without messages that were confirmed.

    Attributes:
        rollback: names that event; one with a name that was reported before is not new.
    """

    rollback: str


class Reset(NamedTuple):
    """The server does not know the client's position: messages may be missing, or come again."""


class Moved(NamedTuple):
    """The position was set by the server, and nothing is missing."""


class Arrived(NamedTuple):
    """The next event for the application, in order.

    Attributes:
        what: a message, or a change of position.
        positions: the client's positions once it has handled this; the same object as before if
            they did not change.
    """

    what: Message | Lost | Forked | Reset | Moved
    positions: Positions


class Tracking:
    """Tracks the positions up to which messages were received.

    Attributes:
        positions: up to where everything was received, or reported as missing.
        is_wire2: whether the server accepted this client as one that speaks wire 2.
    """

    __slots__ = ("_acknowledged", "_follows_broadcasts", "_is_accepted", "is_wire2", "positions")

    def __init__(self, positions: Positions) -> None:
        self.positions = positions
        self.is_wire2 = False
        self._acknowledged: Position | None = None  # None while this connection is in no outbox
        self._follows_broadcasts = False
        self._is_accepted = False

    def accepted(self, extension: object, asked: Positions) -> list[Arrived]:
        """Read the `x` of an op 22. Without one the server speaks wire 1, and numbers nothing.

        Args:
            extension: the member `x`.
            asked: the positions from which the client asked the server to continue.
        """
        self._is_accepted = True
        self.is_wire2 = isinstance(extension, dict)
        outbox = _Told.read(extension)
        broadcasts = _Told.read(extension.get("b")) if isinstance(extension, dict) else None
        self._acknowledged = outbox and outbox.position
        self._follows_broadcasts = broadcasts is not None
        return self._move(outbox, broadcasts, asked)

    def resynced(self, data: object) -> list[Arrived] | None:
        """Read the `d` of an op 9; None if it is unreadable, or about messages that are not followed."""
        told = _Told.read(data)
        is_broadcast = isinstance(data, dict) and data.get("b") is True
        if told is None:
            return None
        if is_broadcast:  # the server goes on from what it has sent
            return self._move(None, told, self.positions) if self._follows_broadcasts else None
        if self._acknowledged is None:
            return None
        if told.position.epoch != self._acknowledged.epoch:
            self._acknowledged = told.position._replace(sequence=-1)
        return self._move(told, None, self.positions)

    def arrived(self, frame: Frame) -> list[Arrived]:
        """Handle a message; one that was received before gives no event."""
        hole: list[Arrived] = []
        outbox, broadcasts = self.positions
        if isinstance(frame.s, int) and outbox is not None and self._acknowledged is not None:
            missing = frame.s - outbox.sequence - 1
            if missing < 0:
                return []
            if missing:
                before = Position(outbox.epoch, frame.s - 1)
                hole = [Arrived(Lost(missing, is_announced=False), Positions(before, broadcasts))]
            self.positions = Positions(Position(outbox.epoch, frame.s), broadcasts)
        elif isinstance(frame.b, int) and broadcasts is not None:
            if not self._is_accepted:
                return []  # it comes again, in its place, once this client is accepted
            if not self._follows_broadcasts:
                return [Arrived(frame.message(), self.positions)]
            # Numbers may be skipped here: those of messages that exclude this client.
            if frame.b <= broadcasts.sequence:
                return []
            self.positions = Positions(outbox, Position(broadcasts.epoch, frame.b))
        return [*hole, Arrived(frame.message(), self.positions)]

    def acknowledges(self, position: Position) -> bool:
        """Whether to acknowledge `position`, which then counts as acknowledged.

        False for a position of another outbox or epoch than this connection's, and for one that
        the server knows already.
        """
        last, outbox = self._acknowledged, self.positions.outbox
        if last is None or outbox is None or position.epoch != last.epoch or position > outbox:
            return False
        if position <= last:
            return False
        self._acknowledged = position
        return True

    def _move(self, outbox: "_Told | None", broadcasts: "_Told | None", asked: Positions) -> list[Arrived]:
        """Move to the positions that the server named, and return what that means for the application."""
        was = self.positions
        moves = []
        if outbox is not None:
            moves.append(outbox.move(was.outbox, asked.outbox, is_dense=True))
        if broadcasts is not None:
            moves.append(broadcasts.move(was.broadcasts, asked.broadcasts, is_dense=False))
        self.positions = Positions(
            was.outbox if outbox is None else moves[0].to,
            was.broadcasts if broadcasts is None else moves[-1].to,
        )
        told: list[Message | Lost | Forked | Reset | Moved] = []
        if any(move.is_reset for move in moves):
            told.append(Reset())
        rollbacks = (move.rollback for move in moves if move.rollback and not move.is_reset)
        told += [Forked(rollback) for rollback in dict.fromkeys(rollbacks)]
        told += [Lost(move.lost, move.is_announced) for move in moves if move.lost]
        if moves and not told:
            told.append(Moved())
        return [Arrived(what, self.positions) for what in told]


class _Move(NamedTuple):
    """A change from one position to another, and what it skips."""

    to: Position
    is_reset: bool
    lost: int
    is_announced: bool = True
    rollback: str = ""


class _Told(NamedTuple):
    """A position as the server reported it."""

    position: Position
    status: object
    lost: int
    ended: int | None
    rollback: str = ""

    @classmethod
    def read(cls, value: object) -> "_Told | None":
        position = read_position(value)
        if position is None or not isinstance(value, dict):
            return None
        status, lost, ended = value.get("status"), value.get("lost"), value.get("ended")
        rollback = value.get("rollback") if status == "forked" else None
        return cls(
            position,
            status,
            lost if type(lost) is int and lost > 0 else 0,
            ended if type(ended) is int and ended >= 0 else None,
            rollback if isinstance(rollback, str) else "",
        )

    def move(self, was: Position | None, asked: Position | None, *, is_dense: bool) -> _Move:
        """Return what it means to move there; see `_go`."""
        return self._go(was, asked, is_dense=is_dense)._replace(rollback=self.rollback)

    def _go(self, was: Position | None, asked: Position | None, *, is_dense: bool) -> _Move:
        """Return what the move skips.

        Args:
            was: up to where messages were received, including those not handled yet.
            asked: the position from which the client asked to continue.
            is_dense: whether every number belongs to a message to this client.
        """
        is_reset = self._is_reset(asked)
        if is_reset or was is None or asked is None:
            return _Move(self.position, is_reset, self.lost)
        start = self.position.sequence
        is_announced = not is_dense or start - asked.sequence <= self.lost
        had = self._carried(was, asked)
        if had is None:
            missing = max(self.lost, start - asked.sequence) if is_dense else self.lost
            is_reset = asked.sequence < was.sequence and start >= asked.sequence
            return _Move(self.position, is_reset, missing, is_announced)
        if start <= had:
            return _Move(Position(self.position.epoch, had), False, 0)  # what comes again is recognized
        return _Move(self.position, False, start - had if is_dense else self.lost, is_announced)

    def _carried(self, was: Position, asked: Position) -> int | None:
        """Return up to where messages were received, in numbers of the present epoch.

        None where that cannot be known: a message that was received and not handled may come again,
        or its number may stand for another message now; only the end of its epoch would tell.
        """
        if self.position.epoch == was.epoch:
            return was.sequence
        return min(was.sequence, self.ended) if self.ended is not None and asked.epoch == was.epoch else None

    def _is_reset(self, asked: Position | None) -> bool:
        """Whether numbers before and after cannot be compared, whatever the server calls it."""
        if self.status not in ("fresh", "resumed", "forked"):
            return True
        return asked is not None and self.status != "forked" and self.position.epoch != asked.epoch


def _members(position: Position) -> dict[str, Any]:
    return {"e": position.epoch, "s": position.sequence}
