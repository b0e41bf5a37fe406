"""The hub, and the membership of a node in one of its clusters."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar
from uuid import uuid4

from ...concurrency.blocking import running_loop
from ...concurrency.clock import unix_time
from ...errors import BackendUnavailable, MesaError
from ...messages.envelope import Envelope
from ...messages.receipt import Position, Receipt
from ...messages.recipients import check_id
from ...messages.request import Reply
from ...settings import Sync, check_namespace
from ..base import DEFAULT_MEMBERSHIP, Membership, Receive, Watcher
from ..inbox import AppendResult, Backlog, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Standing, Start
from ..pending import Pending
from ..presence import PortalWatch
from ..queries import Query
from .cluster import Cluster, check_durability
from .node import MemoryNode
from .outbox import MemoryOutbox

T = TypeVar("T")


class MemoryHub:
    """Stands in for Redis: keeps the nodes, connections and outboxes of every namespace.

    Servers, portals and dispatchers take it in place of a URL. Servers and portals of one hub run in
    one event loop; dispatchers may be used in any thread and any event loop of the process. Everything
    that the hub keeps ends with it.

    Args:
        clock: returns the time in seconds of Unix time.
    """

    def __init__(self, clock: Callable[[], float] = unix_time) -> None:
        self._clock = clock
        self._clusters: dict[str | None, Cluster] = {}
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._members = 0

    def cluster(self, namespace: str | None) -> Cluster:
        """Return the cluster of a namespace."""
        with self._lock:
            if namespace not in self._clusters:
                self._clusters[namespace] = Cluster(self._clock)
            return self._clusters[namespace]

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop of the servers and portals; None while there are none."""
        return None if self._loop is None or self._loop.is_closed() else self._loop

    def enter(self) -> None:
        """Add a server or a portal, in the running event loop; balanced by `leave`.

        Raises:
            MesaError: others run in another event loop.
        """
        with self._lock:
            if self.loop not in {None, running_loop()}:
                raise MesaError(
                    "MemoryHub: expected servers and portals in one event loop, got another one; run all "
                    "of them in the same, or give each its own hub"
                )
            self._members = self._members + 1 if self.loop is not None else 1
            self._loop = running_loop()

    def leave(self) -> None:
        """Remove a server or a portal."""
        with self._lock:
            self._members -= 1
            if not self._members:
                self._loop = None

    def step(self, work: Callable[[], T]) -> Future[T]:
        """Carry out a step that never waits: at once, or in the event loop of the servers.

        While no server and no portal runs, any thread may carry out one.
        """
        outcome: Future[T] = Future()
        with self._lock:
            loop = self.loop
            if loop is None or loop is running_loop():
                _carry_out(work, outcome)
            else:
                loop.call_soon_threadsafe(_carry_out, work, outcome)
        return outcome


def _carry_out(work: Callable[[], T], outcome: Future[T]) -> None:
    if outcome.set_running_or_notify_cancel():
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - the caller gets it
            outcome.set_exception(error)


class MemoryBackend:
    """`Backend` at a hub; see there for what each method promises.

    Args:
        hub: the hub to join; a hub of its own by default.
        namespace: clusters of different namespaces at one hub never meet.

    Attributes:
        hub: the hub that it shares with other backends.
        node_id: random name of this node; empty until the backend is open.
        joins: always 0: the hub forgets nothing.
    """

    joins = 0

    def __init__(self, hub: MemoryHub | None = None, *, namespace: str | None = None) -> None:
        self.hub = hub or MemoryHub()
        self._cluster = self.hub.cluster(check_namespace(namespace))
        self._node: MemoryNode | None = None
        self.node_id = ""
        self._pending = Pending()

    @property
    def is_ready(self) -> bool:
        """Whether the backend is open."""
        return self._node is not None

    async def open(
        self, receive: Receive, watcher: Watcher | None = None, membership: Membership = DEFAULT_MEMBERSHIP
    ) -> None:
        """Join the hub, which never forgets by itself.

        Raises:
            Unsupported: `durability` is more than this process offers.
        """
        check_durability("portals.durability", membership.durability)
        loop, ttl = asyncio.get_running_loop(), (membership.retention or Sync()).ttl
        self.node_id = uuid4().hex
        grace, window = membership.grace, membership.window
        self.hub.enter()
        self._node = MemoryNode(loop, receive, watcher, ttl, grace, window, self.node_id)
        self._cluster.holders.nodes[self._node] = None
        if membership.portals and watcher is not None:
            inbox = self._cluster.inbox
            inbox.watches[self.node_id] = PortalWatch(watcher)
            inbox.watches[self.node_id].look(inbox.portals)

    async def aclose(self) -> None:
        """Leave the hub; the ids that this node holds are offline from now on."""
        self._pending.close()
        if self._node is None:
            return
        self._node.close()
        del self._cluster.holders.nodes[self._node]
        for id in tuple(self._node.held):
            self.detach(id)
        self._node = None
        self._cluster.inbox.watches.pop(self.node_id, None)
        self._cluster.inbox.end_connections(self.node_id)
        self.hub.leave()

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare connections of `id` on this node, and read its outbox."""
        node, cluster, id = self._opened(), self._cluster, check_id(id)
        is_first = sockets == 1 and id not in node.held
        holding = cluster.holders.hold(node, id, sockets)
        if start is None:
            return None
        page = cluster.outboxes.attach(node, id, start, cluster.drop_expired())
        holding.floor = page.start if is_first else min(holding.floor, page.start)
        cluster.outboxes.revisit(id)
        return page._replace(standing=await self.standing(id))

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self._node is not None:
            self._cluster.holders.leave(self._node, id)
            self._cluster.outboxes.revisit(id)

    def connected(self, count: int) -> None:
        """Declare how many connections this node has."""
        if self._node is not None:
            self._node.connections = count

    async def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Append an event to its queue; see `Inbox.append`."""
        self._opened()
        return self._cluster.inbox.append(event, capacity)

    async def backlog(self) -> Backlog:
        """Return which events wait for portals; see `WithBacklog`."""
        return self._cluster.inbox.backlog()

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Store `envelopes` that have a retention, and deliver them to the nodes that hold a recipient.

        Nodes receive them in the next turn of the event loop, in order, as from any other bus.
        """
        for envelope in envelopes:
            check_durability("durability", envelope.durability)
        return [self._cluster.dispatch(envelope) for envelope in envelopes]

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request to the connections of one id, and wait for an answer."""
        return await self._cluster.request(request, timeout, self._pending)

    def reply(self, requester: str, reply: Reply) -> None:
        """Send a reply to a requester, in the next turn of the event loop."""
        pending = self._cluster.requesters.get(requester)
        if pending is not None:
            asyncio.get_running_loop().call_soon(pending.take, reply)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages after positions."""
        node, cluster = self._opened(), self._cluster
        pages = [cluster.outboxes.read(node, each, cluster.clock()) for each in reads]
        return [page._replace(standing=Standing(position=cluster.newest_order)) for page in pages]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Forget messages that were received."""
        if self._node is not None:
            for each in acknowledgements:
                self._cluster.outboxes.acknowledge(self._node, each, self._cluster.clock())

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position."""
        page = self._page(self._cluster.broadcasts, position)
        return page._replace(standing=Standing(position=self._cluster.newest_order))

    async def orders(self, position: Position | None) -> Page:
        """Read the orders after a position."""
        return self._page(self._cluster.orders, position)

    async def standing(self, id: str) -> Standing:
        """Return what a login of an id has to know."""
        cluster = self._cluster
        until, _ = cluster.revocation(id, cluster.clock()) or (None, None)
        return Standing(until, cluster.newest_order)

    def carried_out(self, position: Position) -> None:
        """Note that this node has carried out every order up to a position."""
        if self._node is not None:
            self._node.carried_out = position.sequence

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query."""
        answer: T = self._cluster.answer(query)
        return answer

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and return their number."""
        return self._cluster.purge(id)

    def _page(self, outbox: MemoryOutbox, position: Position | None) -> Page:
        outbox.expire(self._cluster.clock())
        if position is None:
            return outbox.tip()
        if outbox.holds(position):
            return outbox.page("resumed", position.sequence)
        return outbox.page("reset", outbox.top)

    def _opened(self) -> MemoryNode:
        if self._node is None:
            raise BackendUnavailable("the memory backend is not open; enter the server first")
        return self._node
