"""What a server tells a client of wire 2 about where it stands (spec sections 17.4, 17.7 and 17.8)."""

from typing import Any, NamedTuple, Protocol

from ..messages.frames import encode_frame, extended
from ..messages.message import Op
from .events import SendText


class Summary(Protocol):
    """What a page of an outbox tells, apart from its messages; a backend's page is one."""

    @property
    def status(self) -> str:
        """`fresh`, `resumed`, `forked` or `reset`: how the client's position was understood."""

    @property
    def epoch(self) -> str:
        """The epoch of the page and of everything later."""

    @property
    def start(self) -> int:
        """The messages of the page follow this sequence."""

    @property
    def top(self) -> int:
        """The last sequence there is."""

    @property
    def lost(self) -> int:
        """Messages before `start` that the client should have got, and never will."""

    @property
    def last(self) -> int:
        """The sequence up to which the page tells everything."""

    @property
    def ended(self) -> int | None:
        """With `forked`, where the epoch of the client's position ended."""

    @property
    def rollback(self) -> str:
        """With `forked`, names the occasion on which messages may have been forgotten; else empty."""


class ResumeState(NamedTuple):
    """Where a client is: messages follow from here on."""

    status: str
    epoch: str
    start: int
    lost: int
    ended: int | None = None
    rollback: str = ""

    @classmethod
    def of(cls, page: Summary) -> "ResumeState":
        """What has to be told before the messages of `page`."""
        return cls(page.status, page.epoch, page.start, page.lost, page.ended, page.rollback)

    def members(self) -> dict[str, Any]:
        """The members that tell it on the wire."""
        members = {"e": self.epoch, "s": self.start, "status": self.status, "lost": self.lost}
        if self.ended is not None:
            members["ended"] = self.ended
        if self.rollback:
            members["rollback"] = self.rollback
        return members


def welcome(
    accepted: SendText, outbox: ResumeState | None, broadcasts: ResumeState | None = None
) -> SendText:
    """Add to what `ServerProtocol.accept` gave where a client of wire 2 stands.

    Args:
        accepted: the acknowledgement.
        outbox: of its id; None where nothing can be stored for it.
        broadcasts: of the messages to everybody; None likewise.
    """
    extension = outbox.members() if outbox is not None else {}
    if broadcasts is not None:
        extension["b"] = broadcasts.members()
    return SendText(extended(accepted.payload, extension))


def resync(state: ResumeState, *, is_broadcast: bool = False) -> SendText:
    """The frame that tells a client of wire 2 to go on from another place (op 9).

    Args:
        standing: the place.
        is_broadcast: whether it is one among the messages to everybody.
    """
    about = {"b": True} if is_broadcast else {}
    return SendText(encode_frame(Op.RESYNC, state.members() | about))


def reconnect(after: float) -> SendText:
    """The frame that tells a client of wire 2 to come back `after` seconds (op 7)."""
    return SendText(encode_frame(Op.RECONNECT, {"after": after}))
