"""The stored messages that one authenticated connection gets: from the bus, or read from the backend.

The cursors (`protocol.cursor`) decide which message is written next and when to read; a subscription
carries that out. It never waits: `recovery` reads for it and brings a page later.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ..backend.outbox import Entry, Page
from ..concurrency.limited_log import LimitedLog
from ..messages.frames import joined, numbered, numbered_broadcast
from ..messages.message_log import log_page
from ..messages.order import Order
from ..messages.receipt import Position
from ..protocol.cursor import BroadcastCursor, Offered, OutboxCursor, Progress
from ..protocol.events import Acknowledged, ProbeAnswered, UnexpectedAnswer
from ..protocol.resume import ResumeState, resync
from .send_queue import JOINED_BYTES, SendQueue

log = logging.getLogger("mesa_ws.server")

UNBOUNDED = 2**62
"""Above every sequence: `follow(UNBOUNDED)` holds back frames until all stored messages are written.
Also the window of a client of 1.x, which may have any number of unacknowledged messages: its outbox bounds
them. If messages waited for acknowledgements, the outbox could drop them first."""

NUMBERED = 32
"""Bytes at most that the number of a message and the head of its frame take."""

_WRITE, _HOLD, _LIVE = Offered.WRITE, Offered.HOLD, Progress.LIVE


_NO_ENTRIES: deque[Entry] = deque()
"""Page of nearly all subscriptions at nearly all times; a deque of its own would take 600 bytes."""


class SubscriptionHost(Protocol):
    """The node's part that serves subscriptions: `Fanout`.

    Its `read` and `read_broadcasts` are those of `Recovery`, `watch` and `acked` those of `Acknowledgements`.
    """

    redelivery_interval: float | None
    """Seconds between two messages to a client of 1.x that were stored before its login."""

    log: LimitedLog
    """Gets what clients cause."""

    is_prompt: bool
    """Whether clients are probed right after their login."""

    redelivered_handlers: Collection[object]
    """Hooks about messages stored before a login; without any, `redelivers` need not be called."""

    def read(self, subscription: "Subscription", /) -> None:
        """Read the page that follows `subscription.reading`, and call `on_page` with it."""

    def read_broadcasts(self, subscription: "Subscription", /) -> None:
        """Read messages to everybody likewise, and call `on_broadcast_page`."""

    def watch(self, subscription: "Subscription", /) -> None:
        """Probe the client of `subscription` until it has acknowledged all it was sent."""

    def acked(self, subscription: "Subscription", /) -> None:
        """Take note that the client has acknowledged more than before."""

    def redelivers(self, subscription: "Subscription", entries: Sequence[Entry], /) -> None:
        """Take note that the client gets messages stored before its login: all, or the next part."""

    def lost(self, subscription: "Subscription", page: Page, /) -> None:
        """Take note that a client has lost messages."""


class Subscription:
    """A connection's reading of the outbox of its id, and on wire 2 of the messages to everybody.

    Attributes:
        outbox: the cursor in the outbox.
        broadcasts: the cursor among the messages to everybody; None for clients of 1.x.
        reading: the position after which the outbox is being read, while it is.
        reading_broadcasts: likewise for messages to everybody.
        is_watched: whether the client is being probed, or need not be.
        broadcasts_before: position up to which the client had the messages to everybody before this
            subscription; None if it is unknown.
        settles: whether the acknowledgements of this client count for its id.
        orders_from: position of the newest order to all nodes that was given before the connection became one
            of the id; None until it is known; set by `OrderFollower`.
        late_orders: orders that came until then; likewise.
    """

    __slots__ = (
        "_backlog",
        "_broadcast_page",
        "_broadcasts_until",
        "_host",
        "_is_writing",
        "_page",
        "_probe",
        "_timer",
        "_wanted",
        "_wanted_broadcast",
        "broadcasts",
        "broadcasts_before",
        "id",
        "is_open",
        "is_watched",
        "is_wire2",
        "late_orders",
        "orders_from",
        "outbox",
        "reading",
        "reading_broadcasts",
        "send_queue",
        "settles",
    )

    def __init__(
        self,
        host: SubscriptionHost,
        send_queue: SendQueue,
        id: str,
        *,
        is_wire2: bool,
        probe: Callable[[], None],
    ) -> None:
        self._host = host
        self._probe = probe
        self.send_queue = send_queue
        self.id = id
        self.is_wire2 = is_wire2
        self.orders_from: Position | None = None
        self.late_orders: tuple[tuple[Position, Order], ...] = ()
        if is_wire2:
            self.outbox = OutboxCursor(is_wire2=True)
        else:
            self.outbox = OutboxCursor(is_wire2=False, max_messages=UNBOUNDED, max_bytes=UNBOUNDED)
        self.broadcasts = BroadcastCursor() if is_wire2 else None
        self.is_open = True
        self.is_watched = is_wire2
        self.settles = True
        self.reading: Position | None = None
        self.reading_broadcasts: Position | None = None
        # What is not written yet of pages, and the last message that was offered while a page was read: if
        # the page lacks it, another one is read (`_read_again_if_missed`).
        self._page = self._broadcast_page = _NO_ENTRIES
        self._wanted: Position | None = None
        self._wanted_broadcast: Position | None = None
        self._broadcasts_until = 0
        self.broadcasts_before: Position | None = None
        self._backlog = 0  # the last sequence that was stored before the login
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        send_queue.block()
        if send_queue.is_congested:
            self._hold_back()

    @property
    def is_started(self) -> bool:
        """Whether the first page has come."""
        return bool(self.outbox.epoch)

    @property
    def broadcasts_written(self) -> Position | None:
        """Position up to which messages to everybody are surely written; None before a page, or for 1.x."""
        cursor = self.broadcasts
        if cursor is None or not cursor.epoch:
            return None
        return Position(cursor.epoch, cursor.sent if self.send_queue.is_clear else self._broadcasts_until)

    @property
    def broadcasts_reached(self) -> Position | None:
        """Position up to which messages to everybody are written or wait in the send queue."""
        cursor = self.broadcasts
        return Position(cursor.epoch, cursor.sent) if cursor and cursor.epoch else self.broadcasts_before

    # From the bus.

    def deliver(self, position: Position, payload: bytes) -> None:
        """Write a message to this id, encoded for this client, or leave it to be read in its order."""
        verdict = self.outbox.offer(position, len(payload))
        if verdict is _WRITE:  # from now on the cursor counts it as sent
            if self.send_queue.is_cut():
                return
            self.send_queue.put(payload)
            if not self.is_watched:
                self._host.watch(self)
        elif self.outbox.progress is not _LIVE:
            if verdict is _HOLD:
                self.send_queue.follow(position.sequence)
                self._wanted = position
            else:
                self.send_queue.follow(
                    position.sequence if position.epoch == self.outbox.epoch else UNBOUNDED
                )
                self._go_on()

    def announce(self, position: Position, payload: bytes | None) -> None:
        """Write a message to everybody, on wire 2; None advances past one that excludes this client."""
        cursor = self.broadcasts
        if cursor is None:
            return
        verdict = cursor.offer(position)
        if verdict is _WRITE:
            if self.send_queue.is_clear:
                self._broadcasts_until = cursor.sent
            if payload is not None:
                self.send_queue.write(payload)
        elif verdict is _HOLD:
            self._wanted_broadcast = position
        elif cursor.progress is not _LIVE:
            self._go_on()

    def announce_all(self, positions: Sequence[Position]) -> bool:
        """Offer messages to everybody while the queue is clear; see `BroadcastCursor.offer_all`."""
        cursor = self.broadcasts
        if cursor is None or not cursor.offer_all(positions[0], len(positions)):
            return False
        self._broadcasts_until = cursor.sent
        return True

    # From the backend.

    def begin(self, page: Page, broadcasts: Page | None, here: Position | None) -> None:
        """Start with the first pages, after the client was sent the positions that they begin at.

        Args:
            page: of the outbox.
            broadcasts: of the messages to everybody; on wire 2 only.
            here: position up to which the node has delivered messages to everybody by now, whether this
                client was among their recipients or not.
        """
        if log.isEnabledFor(logging.DEBUG):
            entries = (*page.entries, *(broadcasts.entries if broadcasts is not None else ()))
            log_page(log, self.id, (entry.body for entry in entries))
        self._backlog = page.top
        self.send_queue.follow(page.top, is_first=True)
        self.outbox.on_page(page)
        if self.broadcasts is not None and broadcasts is not None:
            self.broadcasts.on_page(broadcasts)
            self._broadcast_page = self._kept(self._broadcast_page, broadcasts)
            self._broadcasts_until = broadcasts.start
            _read_again_if_missed(self.broadcasts, here)
        if page.status == "resumed":
            self._host.acked(self)
        self._add_page(page, is_first=True)
        if self._host.is_prompt:
            self.probe()

    def on_page(self, page: Page) -> None:
        """Add the page of the outbox that was requested."""
        self.reading = None
        if self.outbox.on_page(page) and self.is_wire2:
            self.send_queue.control(resync(ResumeState.of(page)))
        self._add_page(page)

    def on_broadcast_page(self, page: Page) -> None:
        """Add the page of messages to everybody that was requested."""
        self.reading_broadcasts = None
        if self.broadcasts is None:
            return
        if self.broadcasts.on_page(page):
            self.send_queue.write(resync(ResumeState.of(page), is_broadcast=True))
        self._broadcasts_until = page.start
        _read_again_if_missed(self.broadcasts, self._wanted_broadcast)
        self._broadcast_page = self._kept(self._broadcast_page, page)
        self._go_on()

    def invalidate(self) -> None:
        """Read the outbox again, because messages may have passed by; later ones follow those read.

        Messages to everybody are not read again: the node announces those that it missed, or calls
        `invalidate_broadcasts`.
        """
        self.send_queue.follow(UNBOUNDED)
        self.outbox.invalidate()
        self._go_on()

    def invalidate_broadcasts(self) -> None:
        """Read where the messages to everybody are, because the old position is gone; notify the client."""
        if self.broadcasts is not None:
            self.broadcasts.invalidate()
            self._go_on()

    # From the client.

    def congested(self) -> None:
        """Stop writing: the client reads too slowly."""
        self.send_queue.congested(by_page=self._is_writing)
        self._hold_back()

    def relieved(self) -> None:
        """Write on: the client reads again."""
        self.send_queue.relieved()
        self.outbox.relieved()
        if self.broadcasts is not None:
            self.broadcasts.relieved()
        self._go_on()

    def on_acknowledgement(self, event: Acknowledged | ProbeAnswered | UnexpectedAnswer) -> None:
        """Take note of what the client says that it has received.

        Clients of wire 2 acknowledge positions, those of 1.x answer probes. The answers of one that
        answers without a probe prove nothing from then on.
        """
        match event:
            case Acknowledged(position):
                has_more = self.outbox.on_ack(position)
            case ProbeAnswered(token):
                has_more = self.outbox.on_answer(token)
            case UnexpectedAnswer():
                self._host.log.info("%r sent an answer without a probe; its messages stay stored", self.id)
                self.outbox.distrust()
                self._go_on()
                return
        if has_more:
            self._host.acked(self)
            if self.outbox.progress is not _LIVE:  # then the window may have held something up
                self._go_on()

    def probe(self) -> bool:
        """Probe the client if its answer can tell more; return whether it has anything to acknowledge."""
        needs_probe = self.outbox.needs_probe
        if needs_probe:
            self._probe()
        return needs_probe or self.outbox.awaits_answer

    def close(self) -> None:
        """Stop writing for good."""
        self.is_open = False
        self._probe = _nothing  # a method of the connection would keep it in a cycle
        self._page.clear()
        self._broadcast_page.clear()
        self.send_queue.unwritten = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hold_back(self) -> None:
        self.send_queue.block()
        self.outbox.congested()
        if self.broadcasts is not None:
            self.broadcasts.congested()

    def _kept(self, pages: deque[Entry], page: Page) -> deque[Entry]:
        """Add a page to those that are not written yet, and return these; also for a slow client."""
        if not page.entries:
            return pages
        pages = pages or deque()
        pages.extend(page.entries)
        self.send_queue.unwritten += sum(len(entry.body) for entry in page.entries)
        if self.send_queue.is_congested:
            self.send_queue.recount()
        return pages

    def _add_page(self, page: Page, *, is_first: bool = False) -> None:
        if page.lost:
            self._host.lost(self, page)
        _read_again_if_missed(self.outbox, self._wanted)
        is_elsewhere = self._wanted is not None and self._wanted.epoch != page.epoch
        if is_elsewhere or not is_first:
            self.send_queue.follow(UNBOUNDED if is_elsewhere else page.top)
        self._page = self._kept(self._page, page)
        if self._host.redelivered_handlers and (
            is_first or (page.entries and page.entries[0].sequence <= self._backlog)
        ):
            self._host.redelivers(self, page.entries)
        self._go_on()

    def _go_on(self) -> None:
        """Write and read on, as far as the client and the backend allow."""
        if self._is_writing or not self.is_open:
            return
        self._is_writing = True
        try:
            self._write_page()
            if self.outbox.progress in (Progress.WAITING, Progress.PAGING):
                self.send_queue.block()
                return
            self._release_frames()
            self._write_broadcasts()
        finally:
            self._is_writing = False
        self._read_on()

    def _release_frames(self) -> None:
        """Release the frames whose stored messages are written."""
        if self.outbox.progress is _LIVE or self.send_queue.mark <= self.outbox.sent:
            self.send_queue.unblock()
        else:
            self.send_queue.block()
            self.send_queue.release_before(self.outbox.sent + 1)

    def _read_on(self) -> None:
        if self.outbox.progress is Progress.BEHIND and (reading := self.outbox.begin_read()) is not None:
            self.reading, self._wanted = reading, None
            self._host.read(self)
        cursor = self.broadcasts
        if cursor is not None and cursor.progress is Progress.BEHIND:
            reading = cursor.begin_read()
            if reading is not None:
                self.reading_broadcasts, self._wanted_broadcast = reading, None
                self._host.read_broadcasts(self)

    def _write_page(self) -> None:
        page = self._page
        while page and not self.send_queue.is_congested and not self.send_queue.is_cut():
            if self._is_paced(page[0]):
                if self._timer is None:
                    interval = self._host.redelivery_interval or 0.0
                    self._timer = asyncio.get_running_loop().call_later(interval, self._beat)
                return
            self._write_next()

    def _write_next(self) -> None:
        """Write the next message of the page, and with it those that may leave in the same write."""

        def encode(entry: Entry) -> bytes:
            number = self.outbox.on_sent(len(entry.body))
            return entry.body if number is None else numbered(entry.body, number)

        self._put_next(self._page, self.send_queue.release_before(self._page[0].sequence), encode)
        if not self.is_watched:
            self._host.watch(self)

    def _write_broadcasts(self) -> None:
        page, cursor = self._broadcast_page, self.broadcasts

        def encode(entry: Entry) -> bytes:
            number = cursor.on_sent() if cursor is not None else 0
            return b"" if self.id in entry.excluding else numbered_broadcast(entry.body, number)

        while cursor is not None and page and self.send_queue.is_clear and not self.send_queue.is_cut():
            self._put_next(page, self.send_queue.write_joined, encode)

    def _put_next(
        self, page: deque[Entry], write: Callable[[bytes], None] | None, encode: Callable[[Entry], bytes]
    ) -> None:
        payloads: list[bytes] = []
        room = JOINED_BYTES if write is not None else 0
        while page and (
            not payloads or (len(page[0].body) + NUMBERED <= room and not self._is_paced(page[0]))
        ):
            entry = page.popleft()
            self.send_queue.unwritten -= len(entry.body)
            room -= len(entry.body) + NUMBERED
            if payload := encode(entry):
                payloads.append(payload)
        if write is not None and len(payloads) > 1:
            write(joined(payloads))
        elif payloads:
            self.send_queue.put(payloads[0])

    def _is_paced(self, entry: Entry) -> bool:
        """Whether servers of 1.x would pause before this message."""
        interval = self._host.redelivery_interval
        return interval is not None and not self.is_wire2 and entry.sequence <= self._backlog

    def _beat(self) -> None:
        self._timer = None
        if self._page and not self.send_queue.is_congested:
            self._write_next()
        self._go_on()


def _nothing() -> None:
    """Probe no client: the subscription has ended."""


def _read_again_if_missed(cursor: BroadcastCursor | OutboxCursor, offered: Position | None) -> None:
    """Read again if a message that was offered while a page was read is not on that page."""
    if offered is not None and not (offered.epoch == cursor.epoch and offered.sequence <= cursor.last):
        cursor.invalidate()
