"""What connects the feeds of a node with its backend: reading, proofs, and what passed by."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from ..backend.base import Backend
from ..backend.outbox import Acknowledgement, Entry, Page
from ..close import CloseCode
from ..envelope import Envelope
from ..position import Position
from ..session import Close
from ..settings import ServerSettings
from .catchup import CatchUp
from .connection import Connection
from .delivery import Delivery
from .everybody import Everybody
from .feed import Feed
from .handlers import Handlers
from .proofs import Proofs
from .registry import Registry
from .reports import Reports
from .shared import SharedReads

log = logging.getLogger("mesa_ws.server")

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
        feed = Feed(self, connection.outlet, id, is_wire2=connection.session.is_wire2, ask=connection.probe)
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
