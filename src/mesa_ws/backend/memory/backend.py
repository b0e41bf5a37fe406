"""A node's seat at a hub."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

from ...errors import BackendUnavailable
from ...messages.envelope import Envelope, Retention
from ...messages.receipt import OutboxHead, Position, Receipt, Stored
from ...messages.recipients import check_id, check_ids
from ...messages.request import Reply
from ...settings import Durability, Sync, check_namespace
from ..base import IdPage, Receive, Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Start
from ..pending import Pending
from ..presence import PortalWatch
from .cluster import Cluster, check_durability, check_offered
from .node import Seat


class MemoryHub:
    """What Redis would be: keeps, for every namespace, its nodes, whom they hold, and outboxes.

    Used from one event loop at a time. What it keeps is gone with it.

    Args:
        clock: tells the time in seconds of Unix time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._clusters: dict[str | None, Cluster] = {}

    def cluster(self, namespace: str | None) -> Cluster:
        """What the nodes of a namespace share."""
        if namespace not in self._clusters:
            self._clusters[namespace] = Cluster(self._clock)
        return self._clusters[namespace]


class MemoryBackend:
    """A seat at a hub. See `Backend` for what each method promises.

    Args:
        hub: the cluster to join; one of its own by default.
        namespace: clusters of different namespaces at one hub never meet.

    Attributes:
        hub: what it shares with others.
    """

    def __init__(self, hub: MemoryHub | None = None, *, namespace: str | None = None) -> None:
        self.hub = hub or MemoryHub()
        self._cluster = self.hub.cluster(check_namespace(namespace))
        self._seat: Seat | None = None
        self._node_id = ""
        self._pending = Pending()

    @property
    def node_id(self) -> str:
        """Random name of this node; empty until it is open."""
        return self._node_id

    @property
    def is_ready(self) -> bool:
        """Whether the seat is taken."""
        return self._seat is not None

    async def open(
        self,
        receive: Receive,
        watcher: Watcher | None = None,
        *,
        retention: Retention | None = None,
        grace: float = 5.0,
        window: float = 120.0,
        allow_eviction: bool = False,
        portals: bool = False,
        durability: Durability = "memory",
    ) -> None:
        """Join the hub, which never forgets by itself.

        Raises:
            Unsupported: events are to be more durable than this process.
        """
        check_durability("portals.durability", durability)
        loop, ttl = asyncio.get_running_loop(), retention.ttl if retention else Sync().ttl
        self._node_id = uuid4().hex
        self._seat = Seat(loop, receive, watcher, ttl, grace, window, self._node_id)
        self._cluster.holders.seats[self._seat] = None
        if portals and watcher is not None:
            self._cluster.inbox.watch_portals(self._node_id, PortalWatch(watcher))

    async def aclose(self) -> None:
        """Leave the hub; what this node held is offline from now on."""
        self._pending.close()
        seat, self._seat = self._seat, None
        if seat is None:
            return
        del self._cluster.holders.seats[seat]
        for id in tuple(seat.held):
            self._cluster.detach(seat, id)
        self._cluster.inbox.unwatch_portals(self._node_id)
        self._cluster.inbox.end_connections(self._node_id)

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare connections of `id` on this node, and read its outbox."""
        return self._cluster.attach(self._open_seat(), check_id(id), sockets, start)

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self._seat is not None:
            self._cluster.detach(self._seat, id)

    def connected(self, count: int) -> None:
        """Declare how many connections this node has."""
        if self._seat is not None:
            self._seat.connections = count

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id."""
        return {id: self._cluster.holders.online(id) for id in check_ids(ids)}

    async def count(self) -> int:
        """Count the ids that have connections."""
        return len(self._cluster.holders)

    async def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that have connections."""
        return self._cluster.holders.page(cursor)

    async def connections(self) -> int:
        """Count the connections of all nodes, logged in or not."""
        return sum(seat.connections for seat in self._cluster.holders.seats)

    @property
    def joins(self) -> int:
        """Always 0: nothing is forgotten."""
        return 0

    async def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Put an event at the end of its queue; see `Inbox.append`."""
        self._open_seat()
        return self._cluster.inbox.append(event, capacity)

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Store `envelopes` as they ask for, and hand them to the nodes that hold a recipient.

        They are received in the next turn of the event loop, in order, as from any other bus.
        """
        check_offered(envelopes)
        return [self._cluster.dispatch(envelope) for envelope in envelopes]

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id."""
        asker = request.message_id

        async def ask(question: Envelope) -> Receipt:
            return self._cluster.dispatch(question)

        self._cluster.askers[asker] = self._pending
        try:
            return await self._pending.ask(request, asker, timeout, ask)
        finally:
            del self._cluster.askers[asker]

    def reply(self, asker: str, reply: Reply) -> None:
        """Hand a reply to an asker, in the next turn of the event loop."""
        pending = self._cluster.askers.get(asker)
        if pending is not None:
            asyncio.get_running_loop().call_soon(pending.take, reply)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read what follows positions."""
        seat = self._open_seat()
        return [self._cluster.read(seat, read) for read in reads]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Forget what was received."""
        if self._seat is not None:
            for acknowledgement in acknowledgements:
                self._cluster.acknowledge(self._seat, acknowledgement)

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position."""
        return self._cluster.broadcasts(position)

    async def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are."""
        return self._cluster.heads(check_ids(ids))

    async def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first `limit` messages of an outbox."""
        return self._cluster.peek(check_id(id), limit)

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox."""
        return self._cluster.purge(check_id(id))

    def _open_seat(self) -> Seat:
        if self._seat is None:
            raise BackendUnavailable("the memory backend is not open; enter the server first")
        return self._seat
