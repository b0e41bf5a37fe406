"""What a client asks of message sync when it authenticates (spec section 17.3)."""

import re
from typing import Any, NamedTuple

from ..messages.frames import MAX_SEQUENCE, Frame
from ..messages.receipt import Position

UNKNOWN = Position("", 0)
"""A position that is in no outbox: what a client that cannot say where it is gets started from."""

_is_epoch = re.compile(r"[0-9A-Za-z_-]{1,64}").fullmatch


class Wish(NamedTuple):
    """The messages that a client wants once it is somebody.

    Attributes:
        is_wire2: whether it speaks wire 2.
        position: where it is in its outbox; None if it does not say, `UNKNOWN` if that cannot be
            read. Only on wire 2.
        broadcasts: the same among the messages to everybody.
        should_sync: False if it wants nothing of what was stored.
    """

    is_wire2: bool = False
    position: Position | None = None
    broadcasts: Position | None = None
    should_sync: bool = True

    @property
    def is_malformed(self) -> bool:
        """Whether it says where it is, in a way that cannot be read."""
        return UNKNOWN in (self.position, self.broadcasts)


def read_wish(frame: Frame) -> Wish:
    """Read an op 2. Nothing in it is an error: what cannot be read is an unknown position."""
    should_sync = not (isinstance(frame.d, dict) and frame.d.get("shouldSync") is False)
    extension = frame.x if isinstance(frame.x, dict) else {}
    version = extension.get("v")
    if type(version) is not int or version < 2:
        return Wish(should_sync=should_sync)
    position, broadcasts = _read_resume(extension.get("resume"))
    return Wish(True, position, broadcasts, should_sync)


def read_position(value: object) -> Position | None:
    """Read `{"e": epoch, "s": sequence}`; None for anything else. Other members do not matter."""
    if not isinstance(value, dict):
        return None
    epoch, sequence = value.get("e"), value.get("s")
    if not isinstance(epoch, str) or not _is_epoch(epoch):
        return None
    if type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE:
        return None
    return Position(epoch, sequence)


def _read_resume(resume: Any) -> tuple[Position | None, Position | None]:
    if resume is None:
        return None, None
    if not isinstance(resume, dict):
        return UNKNOWN, UNKNOWN
    broadcasts = resume.get("b")
    says_where = "e" in resume or "s" in resume
    return (
        (read_position(resume) or UNKNOWN) if says_where else None,
        (read_position(broadcasts) or UNKNOWN) if broadcasts is not None else None,
    )
