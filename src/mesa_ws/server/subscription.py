"""What one authenticated connection gets of what is stored: by dispatch, or read from the backend.

The cursors (`protocol.delivery`) decide what is to be written next and when to read; a feed carries
that out. It never waits: whoever reads for it brings a page later.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from ..backend.outbox import Entry, Page
from ..messages.frames import numbered, numbered_broadcast
from ..messages.receipt import Position
from ..protocol import BroadcastCursor, Offered, OutboxCursor, Progress, ResumeState, resync
from .send_queue import Outlet

UNBOUNDED = 2**62
"""A client of 1.x may have any number of unproven messages: its outbox bounds them, and one that
waited for a proof could be overtaken by what its outbox drops."""

_WRITE, _HOLD, _LIVE = Offered.WRITE, Offered.HOLD, Progress.LIVE


class Office(Protocol):
    """What feeds need of their node."""

    @property
    def redelivery_interval(self) -> float | None:
        """Seconds between two messages to a client of 1.x that were stored before its login."""

    @property
    def is_prompt(self) -> bool:
        """Whether proofs are asked for at once."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def read(self, feed: "Feed") -> None:
        """Bring `feed` the page that follows `feed.reading`."""

    def read_broadcasts(self, feed: "Feed") -> None:
        """The same for messages to everybody, with `feed.reading_broadcasts`."""

    def watch(self, feed: "Feed") -> None:
        """Ask the client of `feed` for proofs."""

    def proved(self, feed: "Feed") -> None:
        """The client of `feed` has proven more than before."""

    def redelivers(self, feed: "Feed", entries: Sequence[Entry]) -> None:
        """Its client gets what was stored before its login: all of it, or the next part."""

    def lost(self, feed: "Feed", page: Page) -> None:
        """A client that cannot be told has lost messages."""


class Feed:
    """A connection's part of the outbox of its id, and on wire 2 of the messages to everybody.

    Args:
        office: the node.
        outlet: where frames go.
        id: whose outbox.
        is_wire2: what the client speaks.
        ask: asks the client for a proof, unless it is too early for that.

    Attributes:
        replay: the place in the outbox.
        broadcasts: the place among the messages to everybody; None for clients of 1.x.
        reading: where the outbox is being read, while it is.
        reading_broadcasts: likewise.
        is_watched: whether proofs are being asked for, or need not be.
        had_announced: the messages to everybody that the client had before this feed, if that is known.
        settles: whether what it proves may be acknowledged for its id.
    """

    __slots__ = (
        "_announced",
        "_announced_page",
        "_announced_until",
        "_ask",
        "_backlog",
        "_is_writing",
        "_office",
        "_page",
        "_timer",
        "_wanted",
        "broadcasts",
        "had_announced",
        "id",
        "is_open",
        "is_watched",
        "is_wire2",
        "outlet",
        "reading",
        "reading_broadcasts",
        "replay",
        "settles",
    )

    def __init__(
        self, office: Office, outlet: Outlet, id: str, *, is_wire2: bool, ask: Callable[[], None]
    ) -> None:
        self._office = office
        self._ask = ask
        self.outlet = outlet
        self.id = id
        self.is_wire2 = is_wire2
        if is_wire2:
            self.replay = OutboxCursor(is_wire2=True)
        else:
            self.replay = OutboxCursor(is_wire2=False, max_messages=UNBOUNDED, max_bytes=UNBOUNDED)
        self.broadcasts = BroadcastCursor() if is_wire2 else None
        self.is_open = True
        self.is_watched = is_wire2
        self.settles = True
        self.reading: Position | None = None
        self.reading_broadcasts: Position | None = None
        self._page: deque[Entry] = deque()
        self._announced_page: deque[Entry] = deque()
        self._wanted: Position | None = None
        self._announced: Position | None = None
        self._announced_until = 0
        self.had_announced: Position | None = None
        self._backlog = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        outlet.block()
        if outlet.is_congested:
            self.congested()

    @property
    def is_started(self) -> bool:
        """Whether the first page has come."""
        return bool(self.replay.epoch)

    @property
    def announced(self) -> Position | None:
        """Up to where messages to everybody are written at least; None if it has no place among them."""
        cursor = self.broadcasts
        if cursor is None or not cursor.epoch:
            return None
        return Position(cursor.epoch, cursor.sent if self.outlet.is_clear else self._announced_until)

    @property
    def has_announced(self) -> Position | None:
        """The same, with those that wait to be written."""
        cursor = self.broadcasts
        return Position(cursor.epoch, cursor.sent) if cursor and cursor.epoch else self.had_announced

    @property
    def is_writing_page(self) -> bool:
        """Whether what is being written was read from the backend."""
        return self._is_writing

    # What the bus brings.

    def deliver(self, position: Position, payload: bytes) -> None:
        """Take a message to this id, in the form that this client gets."""
        verdict = self.replay.offer(position, len(payload))
        if verdict is _WRITE:
            if self.outlet.is_cut():
                return
            self.outlet.put(payload)
            if not self.is_watched:
                self._office.watch(self)
        elif self.replay.progress is not _LIVE:
            if verdict is _HOLD:
                self.outlet.follow(position.sequence)
                self._wanted = position
            else:
                self.outlet.follow(position.sequence if position.epoch == self.replay.epoch else UNBOUNDED)
                self._go_on()

    def announce(self, position: Position, payload: bytes | None) -> None:
        """Take a message to everybody, on wire 2; None for one that excludes this client."""
        cursor = self.broadcasts
        if cursor is None:
            return
        verdict = cursor.offer(position)
        if verdict is _WRITE:
            if self.outlet.is_clear:
                self._announced_until = cursor.sent
            if payload is not None:
                self.outlet.write(payload)
        elif verdict is _HOLD:
            self._announced = position
        elif cursor.progress is not _LIVE:
            self._go_on()

    # What the backend brings.

    def begin(self, page: Page, announced: Page | None, here: Position | None) -> None:
        """Take the first pages; what they say of where the client stands was told already.

        Args:
            page: of the outbox.
            announced: of the messages to everybody; on wire 2 only.
            here: up to where those were handed on by now, whether this client was among their
                recipients or not.
        """
        self._backlog = page.top
        self.outlet.follow(page.top, is_first=True)
        self.replay.on_page(page)
        if self.broadcasts is not None and announced is not None:
            self.broadcasts.on_page(announced)
            self._announced_page.extend(announced.entries)
            self._announced_until = announced.start
            _check(self.broadcasts, here, announced)
        if page.status == "resumed":
            self._office.proved(self)
        if not page.entries:
            self._office.redelivers(self, ())
        self._taken(page)
        if self._office.is_prompt:
            self.probe()

    def took(self, page: Page) -> None:
        """Take a page of the outbox that was asked for."""
        self.reading = None
        if self.replay.on_page(page) and self.is_wire2:
            self.outlet.control(resync(ResumeState.of(page)).payload)
        self._taken(page)

    def took_broadcasts(self, page: Page) -> None:
        """Take a page of the messages to everybody that was asked for."""
        self.reading_broadcasts = None
        if self.broadcasts is None:
            return
        if self.broadcasts.on_page(page):
            self.outlet.write(resync(ResumeState.of(page), is_broadcast=True).payload)
        self._announced_until = page.start
        _check(self.broadcasts, self._announced, page)
        self._announced_page.extend(page.entries)
        self._go_on()

    def doubt(self) -> None:
        """Messages may have passed by: read again. What comes meanwhile follows what is read.

        Messages to everybody are the node's own business: it announces those that it missed, or says that
        it cannot.
        """
        self.outlet.follow(UNBOUNDED)
        self.replay.invalidate()
        self._go_on()

    def doubt_announced(self) -> None:
        """The place among the messages to everybody is no more: read where they are, and tell."""
        if self.broadcasts is not None:
            self.broadcasts.invalidate()
            self._go_on()

    # What the client does.

    def congested(self) -> None:
        """It reads too slowly."""
        self.outlet.block()
        self.replay.congested()
        if self.broadcasts is not None:
            self.broadcasts.congested()

    def relieved(self) -> None:
        """It reads again."""
        self.replay.relieved()
        if self.broadcasts is not None:
            self.broadcasts.relieved()
        self._go_on()

    def acknowledged(self, position: Position) -> None:
        """It says, on wire 2, that it has everything up to `position`."""
        if self.replay.on_ack(position):
            self._proved()

    def answered(self, token: int) -> None:
        """It answered a question."""
        if self.replay.on_answer(token):
            self._proved()

    def strayed(self) -> None:
        """Its answers prove nothing from now on."""
        self.replay.distrust()
        self._go_on()

    def probe(self) -> bool:
        """Ask it for a proof where that would tell more; say whether there is something to prove."""
        needs_probe = self.replay.needs_probe
        if needs_probe:
            self._ask()
        return needs_probe or self.replay.awaits_answer

    def close(self) -> None:
        """Nothing is written any more."""
        self.is_open = False
        self._page.clear()
        self._announced_page.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _proved(self) -> None:
        self._office.proved(self)
        if self.replay.progress is not _LIVE:  # then the window may have held something up
            self._go_on()

    def _taken(self, page: Page) -> None:
        if page.lost and not self.is_wire2:
            self._office.lost(self, page)
        _check(self.replay, self._wanted, page)
        is_elsewhere = self._wanted is not None and self._wanted.epoch != page.epoch
        self.outlet.follow(UNBOUNDED if is_elsewhere else page.top)
        self._page.extend(page.entries)
        if page.entries and page.entries[0].sequence <= self._backlog:
            self._office.redelivers(self, page.entries)
        self._go_on()

    def _go_on(self) -> None:
        """Write and read on, as far as the client and the backend let us."""
        if self._is_writing or not self.is_open:
            return
        self._is_writing = True
        try:
            self._write_page()
            if self.replay.progress in (Progress.WAITING, Progress.PAGING):
                self.outlet.block()
                return
            self._settle()
            self._write_announced()
        finally:
            self._is_writing = False
        self._read_on()

    def _settle(self) -> None:
        """Let what waits follow what was written."""
        if self.replay.progress is _LIVE or self.outlet.mark <= self.replay.sent:
            self.outlet.unblock()
        else:
            self.outlet.block()
            self.outlet.release_before(self.replay.sent + 1)

    def _read_on(self) -> None:
        reading = self.replay.begin_read()
        if reading is not None:
            self.reading, self._wanted = reading, None
            self._office.read(self)
        if self.broadcasts is not None:
            reading = self.broadcasts.begin_read()
            if reading is not None:
                self.reading_broadcasts, self._announced = reading, None
                self._office.read_broadcasts(self)

    def _write_page(self) -> None:
        page = self._page
        while page and not self.outlet.is_congested and not self.outlet.is_cut():
            if self._is_paced(page[0]):
                if self._timer is None:
                    interval = self._office.redelivery_interval or 0.0
                    self._timer = self._office.at(self._office.now() + interval, self._beat)
                return
            self._write_entry()

    def _write_entry(self) -> None:
        entry = self._page.popleft()
        self.outlet.release_before(entry.sequence)
        number = self.replay.on_sent(len(entry.body))
        self.outlet.put(entry.body if number is None else numbered(entry.body, number))
        if not self.is_watched:
            self._office.watch(self)

    def _write_announced(self) -> None:
        page, cursor = self._announced_page, self.broadcasts
        while cursor is not None and page and self.outlet.is_clear and not self.outlet.is_cut():
            entry = page.popleft()
            number = cursor.on_sent()
            if self.id not in entry.excluding:
                self.outlet.put(numbered_broadcast(entry.body, number))

    def _is_paced(self, entry: Entry) -> bool:
        """Whether 1.x would have let time pass before this message."""
        interval = self._office.redelivery_interval
        return interval is not None and not self.is_wire2 and entry.sequence <= self._backlog

    def _beat(self) -> None:
        self._timer = None
        if self._page and not self.outlet.is_congested:
            self._write_entry()
        self._go_on()


def _check(cursor: BroadcastCursor | OutboxCursor, offered: Position | None, page: Page) -> None:
    """See that what was offered while the backend was asked is read, if it is not on the page."""
    if offered is not None and not (offered.epoch == page.epoch and offered.sequence <= page.last):
        cursor.invalidate()
