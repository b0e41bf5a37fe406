"""What connects the feeds of a node with its backend: reading, proofs, and what passed by."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, Protocol

from ..backend.base import Backend
from ..backend.outbox import Acknowledgement, Entry, Page
from ..close import CloseCode
from ..errors import BackendError
from ..messages.envelope import Envelope
from ..messages.frames import numbered, numbered_broadcast
from ..messages.message_log import log_announcement, log_delivery
from ..messages.receipt import Position
from ..messages.recipients import Recipients
from ..protocol import Close
from ..settings import ServerSettings
from .acknowledgements import Proofs
from .connection import Connection
from .notifications import Reports
from .recovery import CatchUp, SharedReads
from .registrations import Handlers
from .registry import Registry
from .subscription import Feed

log = logging.getLogger("mesa_ws.server")


class Delivery:
    """Finds connections and writes to them, in the order of the bus. Never waits.

    Args:
        registry: who is connected.
        reports: who is told of it.
        anonymous: whether connections without an id get what is for everybody.
    """

    def __init__(self, registry: Registry[Connection], reports: Reports, *, anonymous: bool) -> None:
        self._registry = registry
        self._reports = reports
        self._anonymous = anonymous

    def deliver(self, envelope: Envelope) -> None:
        """Hand on what is not for everybody, or not stored."""
        if log.isEnabledFor(logging.DEBUG):
            log_delivery(log, envelope, len(self._found(envelope.recipients)))
        if envelope.kind == "disconnect":
            for connection in self._found(envelope.recipients):
                connection.disconnect(CloseCode.NORMAL)
        elif envelope.positions:
            reached = self._fed(envelope.recipients.ids) if self._reports.sent_calls else ()
            for id, position in zip(envelope.recipients.ids, envelope.positions, strict=True):
                self._deliver_stored(id, position, envelope.body)
            if reached:
                self._reports.delivered(envelope.body, envelope.message_id, reached)
        else:
            body = envelope.body
            found = self._found(envelope.recipients)
            for connection in found:
                connection.outlet.write(body)
            if self._reports.sent_calls:
                self._reports.delivered(body, envelope.message_id, found)

    def announce(self, position: Position, entry: Entry) -> None:
        """Hand on the next of the stored messages to everybody.

        It is numbered for wire 2, and for whom nobody is known yet: a client that comes back reads
        in its number that it will get this message again, in its place, once it has logged in.
        """
        body, numbered_body = entry.body, numbered_broadcast(entry.body, entry.sequence)
        found = self._registry.everybody(entry.excluding, anonymous=self._anonymous)
        for connection in found:
            feed = connection.feed
            if feed is None:
                connection.outlet.write(numbered_body)
            elif feed.is_wire2:
                feed.announce(position, numbered_body)
            else:
                connection.outlet.write(body)
        if log.isEnabledFor(logging.DEBUG):
            log_announcement(log, entry.message_id, body, len(found))
        for id in entry.excluding:
            for connection in self._registry.of(id):
                if connection.feed is not None:
                    connection.feed.announce(position, None)

        if self._reports.sent_calls:
            self._reports.delivered(body, entry.message_id, found)

    def _fed(self, ids: Iterable[str]) -> Sequence[Connection]:
        """The connections that get what is stored for `ids`."""
        return [each for id in ids for each in self._registry.of(id) if each.feed is not None]

    def _deliver_stored(self, id: str, position: Position, body: bytes) -> None:
        numbered_body: bytes | None = None
        for connection in self._registry.of(id):
            feed = connection.feed
            if feed is None:
                continue
            if feed.is_wire2:
                numbered_body = numbered_body or numbered(body, position.sequence)
                feed.deliver(position, numbered_body)
            else:
                feed.deliver(position, body)

    def _found(self, recipients: Recipients) -> Sequence[Connection]:
        if recipients.everybody:
            return self._registry.everybody(recipients.excluding, anonymous=self._anonymous)
        return [connection for id in recipients.ids for connection in self._registry.of(id)]


RETRY = 1.0
"""Seconds until what was missed is read again after a failure."""


class Source(Protocol):
    """Where stored messages to everybody are."""

    async def broadcasts(self, position: Position | None) -> Page:
        """Read those after a position; with None only tell where they are."""


class Everybody:
    """The node's own place among the stored messages to everybody. For the event loop only.

    Each is handed on once and in order to all connections that are open; one that passed the node
    by is read. Clients of wire 2 that read for themselves have places of their own.

    Args:
        source: the backend.
        spawn: runs work of its own.
        hand_on: takes each message.
        on_reset: called when the backend has forgotten the place, as after it was emptied.

    Attributes:
        position: of the last message handed on; None until it is known.
        lost: messages that were dropped before this node could read them.
    """

    def __init__(
        self,
        source: Source,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        hand_on: Callable[[Position, Entry], None],
        on_reset: Callable[[], None],
    ) -> None:
        self._source = source
        self._spawn = spawn
        self._hand_on = hand_on
        self._on_reset = on_reset
        self._reader: asyncio.Task[None] | None = None
        self._again = False
        self._turn = asyncio.Lock()  # an older answer after a newer one would lead back
        self.position: Position | None = None
        self.lost = 0

    async def start(self) -> None:
        """Find out where the messages are; those before are nobody's here.

        Raises:
            BackendError: the backend did not answer.
        """
        page = await self._source.broadcasts(None)
        if self.position is None:
            self.position = Position(page.epoch, page.last)

    def close(self) -> None:
        """Forget the place, and read nothing any more."""
        self.position = None
        if self._reader is not None:
            self._reader.cancel()

    def offer(self, position: Position, entry: Entry) -> None:
        """Take a message that the bus brought, and hand it on if it is the next."""
        here = self.position
        if here is not None and position.epoch == here.epoch:
            if position.sequence == here.sequence + 1:
                self.position = position
                self._hand_on(position, entry)
                return
            if position.sequence <= here.sequence:
                return
        self._again = True
        if self._reader is None:
            self._reader = self._spawn(self._read())

    async def catch_up(self) -> None:
        """Hand on what was missed.

        Raises:
            BackendError: the backend did not answer.
        """
        async with self._turn:
            if self.position is None:
                await self.start()
            while self.position is not None:
                page = await self._source.broadcasts(self.position)
                self._take(page)
                if not page.has_more:
                    return

    def _take(self, page: Page) -> None:
        here = self.position
        if here is None:
            return
        if page.epoch != here.epoch or page.status == "reset" or page.start > here.sequence:
            self.position = Position(page.epoch, page.start)
        if page.status == "reset":
            self._on_reset()
        if page.lost:
            self.lost += page.lost
            log.warning("%d messages to everybody were dropped before this node had them", page.lost)
        for entry in page.entries:
            place = Position(page.epoch, entry.sequence)
            if self.position == (place.epoch, place.sequence - 1):
                self.position = place
                self._hand_on(place, entry)

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                try:
                    await self.catch_up()
                except BackendError as error:
                    log.warning("the backend gives no messages to everybody: %s", error)
                    self._again = True
                    await asyncio.sleep(RETRY)
        finally:
            self._reader = None


JITTER = 0.25
"""Seconds within which the nodes of a cluster begin to read everything again."""

SLICE = 1000
"""Feeds that are told of doubt before anything else gets its turn."""


class Host(Protocol):
    """What the supply needs of its node."""

    settings: ServerSettings
    handlers: Handlers
    registry: Registry[Connection]
    reports: Reports

    @property
    def backend(self) -> Backend:
        """Where outboxes are."""

    def now(self) -> float:
        """The event loop's time, in seconds."""

    def at(self, when: float, callback: Callable[[], None], /) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""

    def spawn(self, work: Coroutine[Any, Any, Any], /) -> asyncio.Task[Any]:
        """Run `work` on its own."""

    def tell_lost(self, id: str, count: int) -> None:
        """Tell the application that a client of 1.x has lost messages."""


class Supply:
    """Makes feeds, and serves them. For the event loop only.

    Args:
        host: the node.

    Attributes:
        lost_count: messages that clients of 1.x have lost, as far as this node found out.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self.lost_count = 0
        self._delivery = Delivery(
            host.registry, host.reports, anonymous=not host.settings.authentication.required
        )
        self._shared = SharedReads(host.backend.broadcasts, host.spawn)
        self._everybody = Everybody(host.backend, host.spawn, self._announce, self._announced_reset)
        self._reading = CatchUp(host.backend, host.spawn, self._give_up)
        self._proofs = Proofs(self)

    @property
    def redelivery_interval(self) -> float | None:
        """Seconds between two messages to a client of 1.x that were stored before its login."""
        return self._host.settings.sync.redelivery_interval

    @property
    def is_prompt(self) -> bool:
        """Whether proofs are asked for and passed on at once: what 1.x keeps shall not stay longer."""
        return self._host.settings.wire == "mesa1"

    @property
    def broadcast_position(self) -> Position | None:
        """Where this node is among the messages to everybody."""
        return self._everybody.position

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position.

        It may be as of a moment ago: what was handed on since has to be asked for once more.

        Raises:
            BackendError: the backend did not answer.
        """
        return await self._shared.read(position)

    async def start(self) -> None:
        """Find out where the messages to everybody are.

        Raises:
            BackendError: the backend did not answer.
        """
        await self._everybody.start()

    def close(self) -> None:
        """Tell the backend what was proven, and do nothing any more."""
        self._proofs.flush()
        self._proofs.close()
        self._reading.close()
        self._everybody.close()

    def deliver(self, envelope: Envelope) -> None:
        """Take what the bus brings."""
        if envelope.positions and envelope.recipients.everybody:
            [position] = envelope.positions
            excluding = envelope.recipients.excluding
            entry = Entry(position.sequence, envelope.message_id, envelope.body, excluding)
            self._everybody.offer(position, entry)
        else:
            self._delivery.deliver(envelope)

    async def catch_up(self) -> None:
        """Read again everything that concerns this node.

        Raises:
            BackendError: the backend did not answer.
        """
        await asyncio.sleep(random.uniform(0, JITTER))  # noqa: S311 - spreads load
        await self._tell_all(Feed.doubt)
        await self._everybody.catch_up()
        await self._reading.settled()

    def feed(self, connection: Connection, id: str) -> Feed:
        """Begin to feed a connection from the outbox of `id`."""
        feed = Feed(self, connection.outlet, id, is_wire2=connection.protocol.is_wire2, ask=connection.probe)
        connection.follow(feed)
        return feed

    def leave(self, id: str) -> None:
        """Pass on what was proven for an id that a connection leaves, before it is forgotten."""
        self._proofs.flush([id])

    def left(self, id: str) -> None:
        """A connection has left; the others of the id decide now how far its outbox is needed."""
        for connection in self._host.registry.of(id):  # one stands for all: many may share an id
            if connection.feed is not None and connection.feed.is_started:
                self._proofs.left(connection.feed)
                return

    # What feeds and proofs ask for.

    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._host.now()

    def at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""
        return self._host.at(when, callback)

    def read(self, feed: Feed) -> None:
        """Bring `feed` the page that follows `feed.reading`."""
        self._reading.read(feed)

    def read_broadcasts(self, feed: Feed) -> None:
        """The same for messages to everybody."""
        self._reading.read_broadcasts(feed)

    def watch(self, feed: Feed) -> None:
        """Ask the client of `feed` for proofs."""
        self._proofs.watch(feed)

    def proved(self, feed: Feed) -> None:
        """The client of `feed` has proven more than before."""
        self._proofs.proved(feed)

    def lost(self, feed: Feed, page: Page) -> None:
        """A client that cannot be told has lost messages: count and report them, once."""
        self.lost_count += page.lost
        log.warning("%d messages to %r are lost: dropped before they were received", page.lost, feed.id)
        self._proofs.settle(feed, Position(page.epoch, page.start))
        self._host.tell_lost(feed.id, page.lost)

    def redelivers(self, feed: Feed, entries: Sequence[Entry]) -> None:
        """A client gets what was stored before its login."""
        if self._host.reports.redelivered_calls:
            for connection in self._host.registry.of(feed.id):
                if connection.feed is feed:
                    self._host.reports.redelivered(entries, connection)

    def feeds(self, id: str) -> Sequence[Feed]:
        """The feeds of an id's connections here."""
        return [each.feed for each in self._host.registry.of(id) if each.feed is not None]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Tell the backend what was received."""
        self._host.backend.acknowledge(acknowledgements)

    def _all(self) -> Iterator[Feed]:
        return (each.feed for each in self._host.registry if each.feed is not None)

    async def _tell_all(self, tell: Callable[[Feed], None]) -> None:
        for number, feed in enumerate(self._all()):
            tell(feed)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)

    def _announce(self, position: Position, entry: Entry) -> None:
        self._delivery.announce(position, entry)

    def _announced_reset(self) -> None:
        """Clients learn of it now: by the next message to everybody they would learn of it in its stead."""
        self._host.spawn(self._tell_all(Feed.doubt_announced))

    def _give_up(self, feed: Feed, error: Exception) -> None:
        for connection in self._host.registry.of(feed.id):
            if connection.feed is feed:
                why = f"the backend gives no messages to {feed.id!r}: {error}"
                connection.obey(Close(CloseCode.TRY_AGAIN_LATER, why))
