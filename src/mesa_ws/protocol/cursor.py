"""Track which stored, numbered messages a connection was sent, and which of them it has acknowledged.

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
came since again, in order, when the page has been written. Instead it may note the last one alone,
and call `invalidate` if the page does not reach it, as the server does.

A client of wire 2 *acknowledges* what it has handled (`on_ack`). A client of wire 1 knows no
acknowledgement, but it answers probes, in order and after it has handled what came before them:
`on_probe` puts a mark at what was sent before the probe, and `on_answer` acknowledges that much.
Nothing else acknowledges anything, a clean close least of all.

A connection falls behind, too, while more than a window is sent and not acknowledged. So what is
sent twice after a crash stays bounded, and so does the time that a heartbeat waits behind messages.
"""

from enum import Enum, auto
from typing import NamedTuple

from ..messages.receipt import Position
from .resume import Summary

UNBOUNDED = 2**63
"""More than there will ever be, of messages and of bytes."""

WINDOW_MESSAGES = 4096
"""Messages that may be sent and not acknowledged."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes that may be sent and not acknowledged, on wire 1."""

MAX_MARKS = 16
"""Open probes that are remembered; what one more would acknowledge is left to the next probe."""


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
        last: the sequence up to which the last page is complete.
    """

    __slots__ = ("_is_congested", "_is_due", "_limit", "_room", "_top", "epoch", "last", "progress", "sent")

    def __init__(self) -> None:
        self.progress = Progress.WAITING
        self.epoch = ""
        self.sent = 0
        self.last = 0
        self._top = 0  # the last sequence of the outbox when the last page was read
        self._is_due = False  # a read is needed, after the page that is under way
        self._is_congested = False
        self._limit = UNBOUNDED  # the last sequence of the window
        self._room = UNBOUNDED  # bytes left in the window

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
        self.last, self._top = page.start + len(page.entries), page.top
        self.progress = Progress.PAGING
        self._check_page_end()
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
        self._check_page_end()

    def _check_page_end(self) -> None:
        """Leave `PAGING` if the whole page is sent: for `LIVE` if nothing is missing, else for `BEHIND`."""
        if self.sent < self.last:
            return
        self._is_due = self._is_due or self.sent < self._top
        is_live = not self._is_due and not self._is_congested
        self.progress = Progress.LIVE if is_live else Progress.BEHIND

    def _decline(self, epoch: str, sequence: int) -> Offered:
        """Decide about a message that is not the next to write; a gap makes a read necessary."""
        if self.progress is Progress.WAITING:
            return Offered.HOLD
        if epoch == self.epoch and sequence <= max(self.sent, self.last):
            return Offered.SKIP
        self.invalidate()
        return Offered.SKIP

    def _fall_behind(self) -> None:
        if self.progress is Progress.LIVE:
            self.progress = Progress.BEHIND


class _Mark(NamedTuple):
    """What the answer to a probe acknowledges: all that had been sent before the probe."""

    token: int
    sequence: int
    written: int


class OutboxCursor(Cursor):
    """Progress of a connection through the outbox of its id, and how far it has acknowledged.

    Args:
        is_wire2: whether the client acknowledges by itself.
        max_messages: how many may be sent and not acknowledged.
        max_bytes: bytes of those, on wire 1.

    Attributes:
        is_wire2: as above.
        acked: the sequence, of `epoch`, up to which the client has everything.
    """

    __slots__ = (
        "_asked",
        "_backlog",
        "_count",
        "_is_trusted",
        "_marks",
        "_max_bytes",
        "_max_messages",
        "_released",
        "acked",
        "is_wire2",
    )

    def __init__(
        self, *, is_wire2: bool, max_messages: int = WINDOW_MESSAGES, max_bytes: int = WINDOW_BYTES
    ) -> None:
        super().__init__()
        self.is_wire2 = is_wire2
        self.acked = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._asked = 0  # the newest token
        self._backlog = 0  # the last sequence stored before the login; wire 1 numbers no later message
        self._count = 0
        self._is_trusted = True
        self._marks: tuple[_Mark, ...] = ()  # most connections have none at most times
        self._released = 0  # bytes that were acknowledged
        if not is_wire2:
            self._room = max_bytes

    @property
    def position(self) -> Position:
        """Position up to which the client has everything, for the backend."""
        return Position(self.epoch, self.acked)

    @property
    def needs_probe(self) -> bool:
        """Whether a probe would acknowledge what no open probe will. Never on wire 2."""
        return not self.is_wire2 and self._is_trusted and self.sent > self._marked()

    @property
    def awaits_answer(self) -> bool:
        """Whether the answer to an open probe would acknowledge something."""
        return bool(self._marks)

    def on_page(self, page: Summary) -> bool:
        """Begin to write a page; see `Cursor.on_page`."""
        is_first, was = not self.epoch, self.epoch
        must_tell = super().on_page(page)
        if is_first:
            self._backlog = page.top
        elif page.epoch != was:
            self._backlog = 0
        if is_first or page.status not in ("resumed", "forked"):
            self._start_over(page.start)
        elif page.status == "forked":
            self.acked = min(self.acked, page.start)
            self._marks = tuple(m._replace(sequence=min(m.sequence, page.start)) for m in self._marks)
        self._slide()
        return must_tell

    def on_sent(self, size: int = 0) -> int | None:
        """Count the next message of the page, of `size` bytes, as sent.

        Returns:
            Its `s`. On wire 1 the messages that were stored before the login count from 1, and
            later ones have none.

        Raises:
            OutOfTurn: the page has no more.
        """
        self._pass(size)
        if self.is_wire2:
            return self.sent
        if self.sent > self._backlog:
            return None
        self._count += 1
        return self._count

    def on_probe(self, token: int) -> None:
        """Note that a probe was sent; its answer acknowledges what was sent before it."""
        if token <= self._asked:
            return
        self._asked = token
        if self.needs_probe and len(self._marks) < MAX_MARKS:
            self._marks += (_Mark(token, self.sent, self._written()),)

    def on_answer(self, token: int) -> bool:
        """Note that the client answered a probe.

        Returns:
            Whether more is acknowledged than before.
        """
        before = self.acked
        while self._marks and self._marks[0].token <= token:
            mark, *later = self._marks
            self._marks = tuple(later)
            self._release(mark.written)
            self.acked = max(self.acked, mark.sequence)
        self._slide()
        return self.acked > before

    def distrust(self) -> None:
        """Ignore further answers of this client, and wait for none."""
        self._is_trusted = False
        self._marks = ()
        if not self.is_wire2:
            self._limit = self._room = UNBOUNDED

    def on_ack(self, position: Position) -> bool:
        """Note that a client of wire 2 acknowledged everything up to `position`.

        Ignored if that is of another epoch, or more than the client was sent.

        Returns:
            Whether more is acknowledged than before.
        """
        if position.epoch != self.epoch or not self.acked < position.sequence <= self.sent:
            return False
        self.acked = position.sequence
        self._slide()
        return True

    def _marked(self) -> int:
        return self._marks[-1].sequence if self._marks else self.acked

    def _written(self) -> int:
        return self._released + self._max_bytes - self._room

    def _release(self, written: int) -> None:
        self._room += written - self._released
        self._released = written

    def _start_over(self, start: int) -> None:
        """Forget what was sent before: it says nothing about the outbox as it stands now."""
        self.acked = start
        self._marks = ()
        if not self.is_wire2 and self._is_trusted:
            self._room, self._released = self._max_bytes, 0

    def _slide(self) -> None:
        """Move the window to what is acknowledged."""
        if self.is_wire2 or self._is_trusted:
            self._limit = self.acked + self._max_messages


class BroadcastCursor(Cursor):
    """Progress of a connection of wire 2 through the messages to everybody, which need no acknowledgement."""

    __slots__ = ()

    def offer_all(self, first: Position, count: int) -> bool:
        """Decide about messages that were dispatched one after another.

        Returns:
            Whether to write all of them now; the cursor counts them as sent. If not, nothing has changed,
            and each has to be offered.
        """
        epoch, sequence = first
        is_next = self.progress is _LIVE and sequence == self.sent + 1 and epoch == self.epoch
        if is_next:
            self.sent += count
        return is_next

    def on_sent(self) -> int:
        """Count the next message of the page as sent, also one that excludes this client.

        Returns:
            Its `b`.

        Raises:
            OutOfTurn: the page has no more.
        """
        self._pass(0)
        return self.sent
