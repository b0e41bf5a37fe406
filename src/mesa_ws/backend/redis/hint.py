"""Frames on a node's channel: what `scripts/prelude.lua` writes, read again."""

from typing import Literal

import msgspec

from ...envelope import Envelope
from ...position import Position
from ...recipients import Recipients


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands before the body.

    Later versions append members; those that do not know them pass over them.

    Attributes:
        counter: hints published to this node up to and including this one.
        kind: what to do; `marker` belongs to a heartbeat and has no body.
        message_id: names the dispatch.
        ids: the recipients that this node holds, or `*` for everybody.
        excluding: ids that are left out of everybody.
        positions: epoch and sequence in turn, for each of the ids or once for everybody; empty for
            what is not stored.
    """

    counter: int
    kind: Literal["message", "disconnect", "marker"]
    message_id: str
    ids: list[str] | Literal["*"]
    excluding: list[str]
    positions: list[str | int] = []


class InvalidHint(ValueError):
    """Bytes on the channel that are not a frame."""


class Hint(msgspec.Struct, frozen=True, gc=False):
    """One frame."""

    head: Head
    body: bytes
    positions: tuple[Position, ...] = ()

    @classmethod
    def of(cls, frame: bytes) -> "Hint":
        """Read a frame.

        Raises:
            InvalidHint: it is none.
        """
        start = 4 + int.from_bytes(frame[:4], "big")
        if len(frame) < start:
            raise InvalidHint(f"expected a head of {start - 4} bytes, got {max(0, len(frame) - 4)}")
        try:
            head = _DECODER.decode(frame[4:start])
            return cls(head, frame[start:], _positions(head))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidHint(str(error)) from None

    @property
    def envelope(self) -> Envelope:
        """The message it carries; not for markers."""
        head = self.head
        everybody = head.ids == "*"
        recipients = Recipients(everybody, () if everybody else tuple(head.ids), frozenset(head.excluding))
        return Envelope(
            recipients,
            self.body,
            head.kind,  # type: ignore[arg-type]  # markers carry no message
            head.message_id,
            positions=self.positions,
        )


class Continuity:
    """Finds hints that were lost, from the counter that every frame carries.

    Redis counts what it published to a node; pub/sub forgets what finds no listener. A counter
    that falls is a Redis that lost its memory, from which nothing can be concluded.

    Attributes:
        lost: hints known to be lost so far.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last: int | None = None

    def passed(self, head: Head) -> int:
        """Take note of a frame and return how many are missing before it."""
        before = head.counter - (head.kind != "marker")
        missing = max(0, before - self._last) if self._last is not None else 0
        self._last = head.counter
        self.lost += missing
        return missing


def _positions(head: Head) -> tuple[Position, ...]:
    """Read the positions of a head.

    Raises:
        InvalidHint: they are none, or not one for each id.
    """
    flat = head.positions
    if not flat:
        return ()
    if len(flat) == 2 and (head.ids == "*" or len(head.ids) == 1):  # nearly always
        return (_position(*flat),)
    if len(flat) != 2 * (1 if head.ids == "*" else len(head.ids)):
        raise InvalidHint(f"expected a position for each recipient, got {len(flat)} members")
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(_position(epoch, sequence) for epoch, sequence in pairs)


def _position(epoch: str | int, sequence: str | int) -> Position:
    if not isinstance(epoch, str) or not isinstance(sequence, int):
        raise InvalidHint("expected positions of text and integer in turn")
    return Position(epoch, sequence)


_DECODER = msgspec.msgpack.Decoder(Head)
