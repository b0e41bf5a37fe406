"""Frames that tell a client of wire 2 its positions (spec sections 17.4, 17.7 and 17.8)."""

from typing import Any, NamedTuple, Protocol

from ..messages.frames import encode_frame, extended
from ..messages.message import Op
from .events import SendText


class Summary(Protocol):
    """A page of an outbox without its messages; a backend's page is one."""

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
    def last(self) -> int:
        """Sequence up to which the page is complete."""

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


def welcome(
    accepted: SendText, outbox: ResumeState | None, broadcasts: ResumeState | None = None
) -> SendText:
    """Add the positions of a client of wire 2 to the acknowledgement of its login.

    Args:
        accepted: the acknowledgement, from `ServerProtocol.accept`.
        outbox: its state in the outbox of its id; None where nothing can be stored for it.
        broadcasts: its state among the messages to everybody; None likewise.
    """
    extension = outbox.members() if outbox is not None else {}
    if broadcasts is not None:
        extension["b"] = broadcasts.members()
    return SendText(extended(accepted.payload, extension))


def resync(state: ResumeState, *, is_broadcast: bool = False) -> SendText:
    """Return the frame that tells a client of wire 2 to continue from another position (op 9).

    Args:
        state: the position.
        is_broadcast: whether it is one among the messages to everybody.
    """
    about = {"b": True} if is_broadcast else {}
    return SendText(encode_frame(Op.RESYNC, state.members() | about))


def reconnect(after: float) -> SendText:
    """Return the frame that tells a client of wire 2 to come back after `after` seconds (op 7)."""
    return SendText(encode_frame(Op.RECONNECT, {"after": after}))
