"""Read which messages a client wants when it authenticates (spec section 17.3)."""

import re
from typing import Any, NamedTuple

from ..messages.frames import MAX_SEQUENCE, Frame
from ..messages.receipt import Position

UNKNOWN = Position("", 0)
"""A position that is in no outbox, for a client whose own position cannot be read."""

_is_epoch = re.compile(r"[0-9A-Za-z_-]{1,64}").fullmatch


class SyncOptions(NamedTuple):
    """The messages that a client wants once it has authenticated.

    Attributes:
        is_wire2: whether the client speaks wire 2.
        position: its position in its outbox; None if it names none, `UNKNOWN` if that cannot be
            read. Only on wire 2.
        broadcasts: the same among the messages to everybody.
        should_sync: False if the client wants no stored messages.
    """

    is_wire2: bool = False
    position: Position | None = None
    broadcasts: Position | None = None
    should_sync: bool = True

    @property
    def is_malformed(self) -> bool:
        """Whether the client named a position that cannot be read."""
        return UNKNOWN in (self.position, self.broadcasts)


def read_sync_options(frame: Frame) -> SyncOptions:
    """Read an op 2. Nothing in it is an error: a position that cannot be read counts as unknown."""
    should_sync = not (isinstance(frame.d, dict) and frame.d.get("shouldSync") is False)
    extension = frame.x if isinstance(frame.x, dict) else {}
    version = extension.get("v")
    if type(version) is not int or version < 2:
        return SyncOptions(should_sync=should_sync)
    position, broadcasts = _read_resume(extension.get("resume"))
    return SyncOptions(True, position, broadcasts, should_sync)


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
