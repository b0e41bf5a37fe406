"""How a client resumes: what it asks for when it authenticates, and the state that it continues from.

Spec sections 17.3, 17.4 and 17.7. Between the two, the server authenticates the client, and the backend reads
a page of the client's outbox.
"""

import re
from collections.abc import Sized
from typing import Any, NamedTuple, Protocol

from ..messages.frames import MAX_SEQUENCE, encode_frame, extended
from ..messages.message import Op
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


class Summary(Protocol):
    """A page of an outbox, whatever its messages look like; a backend's page is one."""

    @property
    def status(self) -> str:
        """`fresh`, `resumed`, `forked` or `reset`: how the client's position was understood."""

    @property
    def epoch(self) -> str:
        """The epoch of the page and of everything later."""

    @property
    def start(self) -> int:
        """Sequence that the messages of the page follow."""

    @property
    def top(self) -> int:
        """Last sequence of the outbox."""

    @property
    def lost(self) -> int:
        """Messages before `start` that the client should have got, and never will."""

    @property
    def entries(self) -> Sized:
        """The messages that follow `start`."""

    @property
    def ended(self) -> int | None:
        """With `forked`, where the epoch of the client's position ended."""

    @property
    def rollback(self) -> str:
        """With `forked`, names the event in which messages may have been forgotten; else empty."""


class ResumeState(NamedTuple):
    """The position from which a client continues, and how it relates to the one that it named."""

    status: str
    epoch: str
    start: int
    lost: int
    ended: int | None = None
    rollback: str = ""

    @classmethod
    def of(cls, page: Summary) -> "ResumeState":
        """Return the state to send before the messages of `page`."""
        return cls(page.status, page.epoch, page.start, page.lost, page.ended, page.rollback)

    def members(self) -> dict[str, Any]:
        """Return the members of the wire."""
        members = {"e": self.epoch, "s": self.start, "status": self.status, "lost": self.lost}
        if self.ended is not None:
            members["ended"] = self.ended
        if self.rollback:
            members["rollback"] = self.rollback
        return members


def read_sync_options(extension: object) -> SyncOptions:
    """Read the `x` of an op 2. Nothing in it is an error: a position that cannot be read is unknown."""
    members = extension if isinstance(extension, dict) else {}
    version = members.get("v")
    if type(version) is not int or version < 2:
        return SyncOptions()
    return SyncOptions(True, *_read_resume(members.get("resume")))


def read_should_sync(data: object) -> bool:
    """Read from the `d` of an op 2 whether the client wants stored messages."""
    return not (isinstance(data, dict) and data.get("shouldSync") is False)


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


def welcome(
    accepted: bytes,
    outbox: ResumeState | None,
    broadcasts: ResumeState | None = None,
    expires: float | None = None,
) -> bytes:
    """Add what a client of wire 2 needs to know to the frame that acknowledges its login.

    Args:
        accepted: the frame.
        outbox: the client's position.
        broadcasts: the same among the messages to everybody.
        expires: seconds from now on until the login ends.
    """
    extension = outbox.members() if outbox is not None else {}
    if broadcasts is not None:
        extension["b"] = broadcasts.members()
    if expires is not None:
        extension["expires"] = max(0, int(expires))
    return extended(accepted, extension)


def resync(state: ResumeState, *, is_broadcast: bool = False) -> bytes:
    """Return the frame that tells a client of wire 2 to continue from another position (op 9)."""
    about = {"b": True} if is_broadcast else {}
    return encode_frame(Op.RESYNC, state.members() | about)


def reconnect(after: float) -> bytes:
    """Return the frame that tells a client of wire 2 to come back after `after` seconds (op 7)."""
    return encode_frame(Op.RECONNECT, {"after": after})


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
