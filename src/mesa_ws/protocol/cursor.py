"""Track which stored, numbered messages a connection was sent.

A stored message reaches a connection in two ways: it is *offered* when it is dispatched, or it is
read from the backend, a *page* at a time. The first is fast and may miss; the second misses
nothing. A cursor decides between them so that the client gets each message once and in order.

                 ┌──────────────── begin_read ─────────────────┐
                 ▼                                             │
    start ──▶ WAITING ──on_page──▶ PAGING ──last on_sent──▶ BEHIND ◀──gap, invalidate, congested── LIVE
                 │                    │                                                              ▲
                 │                    └──────────────────── nothing is missing ──────────────────────┘
                 └──abandon_read──▶ BEHIND

`LIVE`: the next message offered is the next to write. `BEHIND`: something is missing, or cannot be
written now; offers are left to the next read. `WAITING`: the backend was asked; an offer that comes
before the page may be on it or follow it, so it is held. `PAGING`: the page is being written.

A read covers everything held before it begins, because a message is stored before it is offered. So
the owner forgets the held offers when `begin_read` says that a read begins, and offers those that
came since again, in order, when the page has been written.
"""

from enum import Enum, auto

from ..messages.receipt import Position
from .resume import Summary

UNBOUNDED = 2**63
"""More than there will ever be, of messages and of bytes."""


class Offered(Enum):
    """What to do with a message that is offered."""

    WRITE = auto()
    SKIP = auto()
    HOLD = auto()


class Progress(Enum):
    """States of a cursor; see the top of this file."""

    WAITING = auto()
    PAGING = auto()
    LIVE = auto()
    BEHIND = auto()


class OutOfTurn(Exception):
    """Error of a call in the wrong state; a bug of the caller."""

    def __init__(self, what: str, progress: Progress) -> None:
        super().__init__(f"{what}: not while {progress.name.lower()}")


_WRITE, _LIVE = Offered.WRITE, Progress.LIVE  # every message passes here: one look-up instead of two


class Cursor:
    """Progress of one connection through messages that are numbered without holes.

    Attributes:
        progress: see the top of this file.
        epoch: of `sent`; empty before the first page.
        sent: the sequence up to which everything was written, or reported as lost.
    """

    __slots__ = ("_is_congested", "_is_due", "_last", "_limit", "_room", "_top", "epoch", "progress", "sent")

    def __init__(self) -> None:
        self.progress = Progress.WAITING
        self.epoch = ""
        self.sent = 0
        self._last = 0  # of the page that is being written
        self._top = 0
        self._is_due = False  # a read is needed, once what is under way is done
        self._is_congested = False
        self._limit = UNBOUNDED
        self._room = UNBOUNDED

    def offer(self, position: Position, size: int = 0) -> Offered:
        """Decide about a stored message that was dispatched.

        Args:
            position: its place.
            size: bytes of its frame.

        Returns:
            `WRITE` it now; the cursor counts it as sent. `SKIP`: forget it, it was written or will
            be read. `HOLD`: keep it, and offer it again after the page that the connection waits
            for.
        """
        epoch, sequence = position
        if (
            self.progress is _LIVE
            and sequence == self.sent + 1
            and epoch == self.epoch
            and sequence <= self._limit
            and self._room > 0
        ):
            self.sent = sequence
            self._room -= size
            return _WRITE
        return self._decline(epoch, sequence)

    @property
    def wants_read(self) -> bool:
        """Whether `begin_read` would begin one."""
        return (
            self.progress is Progress.BEHIND
            and self._is_due
            and not self._is_congested
            and self.sent < self._limit
            and self._room > 0
        )

    def begin_read(self) -> Position | None:
        """Begin to read on, if something is missing and may be written.

        Returns:
            From where to read; forget what was held. None if nothing is to be read now.
        """
        if not self.wants_read:
            return None
        self.progress = Progress.WAITING
        self._is_due = False
        return Position(self.epoch, self.sent)

    def abandon_read(self) -> None:
        """Give up a read that the backend did not answer. Forget what was held; `wants_read` again."""
        if self.progress is Progress.WAITING:
            self._is_due = True
            self.progress = Progress.BEHIND

    def on_page(self, page: Summary) -> bool:
        """Take the page that was asked for; then write its messages, each with `on_sent`.

        Returns:
            Whether the server has to tell the client its position first: something is lost, or the
            page does not follow what the client was sent. False for the first page, because the
            login tells every client its position.

        Raises:
            OutOfTurn: no page is waited for.
        """
        if self.progress is not Progress.WAITING:
            raise OutOfTurn("a page", self.progress)
        is_first = not self.epoch
        follows = page.status == "resumed" and page.epoch == self.epoch
        self.epoch, self.sent = page.epoch, page.start
        self._last, self._top = page.last, page.top
        self.progress = Progress.PAGING
        self._settle()
        return not is_first and not (follows and not page.lost)

    def invalidate(self) -> None:
        """Read again, because offers may have been missed."""
        self._is_due = True
        self._fall_behind()

    def congested(self) -> None:
        """Stop writing beyond the current page, because the client reads too slowly."""
        self._is_congested = True
        self._fall_behind()

    def relieved(self) -> None:
        """Go on writing; if anything was offered since `congested`, a read is wanted now."""
        self._is_congested = False
        if self.progress is Progress.BEHIND and not self._is_due:
            self.progress = Progress.LIVE

    def _pass(self, size: int) -> None:
        """Count the next message of the page as written, or as one that excludes this client."""
        if self.progress is not Progress.PAGING:
            raise OutOfTurn("a message of a page", self.progress)
        self.sent += 1
        self._room -= size
        self._settle()

    def _settle(self) -> None:
        """Go on from the end of the page."""
        if self.sent < self._last:
            return
        self._is_due = self._is_due or self.sent < self._top
        is_live = not self._is_due and not self._is_congested
        self.progress = Progress.LIVE if is_live else Progress.BEHIND

    def _decline(self, epoch: str, sequence: int) -> Offered:
        if self.progress is Progress.WAITING:
            return Offered.HOLD
        if epoch == self.epoch and sequence <= max(self.sent, self._last):
            return Offered.SKIP
        self.invalidate()
        return Offered.SKIP

    def _fall_behind(self) -> None:
        if self.progress is Progress.LIVE:
            self.progress = Progress.BEHIND


class BroadcastCursor(Cursor):
    """Progress of a connection of wire 2 through the messages to everybody, which need no acknowledgement."""

    __slots__ = ()

    def on_sent(self) -> int:
        """Count the next message of the page as sent, also one that excludes this client.

        Returns:
            Its `b`.

        Raises:
            OutOfTurn: the page has no more.
        """
        self._pass(0)
        return self.sent
