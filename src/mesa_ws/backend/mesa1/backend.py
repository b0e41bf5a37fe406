"""A server node's membership in a cluster of the 1.x wire."""

from collections.abc import Sequence
from typing import TypeVar
from uuid import uuid4

from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Position, Receipt
from ...messages.recipients import check_id
from ...messages.request import Reply
from ..base import DEFAULT_MEMBERSHIP, Membership, Receive, Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Start
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.pipeline import Operation, Pipelines
from ..redis_wire.operations import NO_REQUESTS
from ..redis_wire.timing import EXPIRY, Timing
from .commands import NOWHERE, Mesa1NodeCommands
from .node import Mesa1Node
from .operations import Mesa1Handshake, Mesa1Wire
from .rights import of_server

T = TypeVar("T")


class Mesa1Backend:
    """`Backend` over the Redis wire of 1.x: servers, dispatchers and clients of npm may take part.

    A message reaches every server of the namespace, and those that hold a recipient deliver it, at most
    once. Messages to everybody are not stored, and 1.x has no status of messages.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: the prefix of 1.x; None for none.
        lease: seconds without a heartbeat after which other nodes treat this node as dead.
        timeout: seconds for one call, connecting included.

    Attributes:
        wire: name of the wire in settings.
        distribute_load: whether portals take turns; if not, each event goes to a random one.
        node_id: random name of this node, new at every `open`; empty before the first.
        joins: always 0: this wire does not keep events.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    wire = "mesa1"
    joins = 0

    def __init__(
        self, address: object, *, namespace: str | None = None, lease: float = 15.0, timeout: float = 5.0
    ) -> None:
        self._address = Address.of(address)
        self._wire = Mesa1Wire(namespace, names=True)
        self._timing = Timing(lease=lease, timeout=timeout, expiry=EXPIRY)
        self.distribute_load = True
        self._node: Mesa1Node | None = None
        self.node_id = ""

    @property
    def is_ready(self) -> bool:
        """Whether messages from other processes reach this node now."""
        return self._node is not None and self._node.is_ready

    async def open(
        self, receive: Receive, watcher: Watcher | None = None, membership: Membership = DEFAULT_MEMBERSHIP
    ) -> None:
        """Subscribe and take the lease; see `Backend.open`. There is no window on this wire.

        Raises:
            Unsupported: `durability` is more than `memory`; this wire does not keep events.
        """
        if membership.durability != "memory":
            raise Unsupported(
                f"portals.durability: expected 'memory', got {membership.durability!r}; wire 'mesa1' keeps "
                "no events, use wire 'native'"
            )
        self.node_id = uuid4().hex
        handshake = Mesa1Handshake(
            self._wire.keys,
            of_server(self._wire.keys),
            stores=membership.retention is not None,
            allow_eviction=membership.allow_eviction,
            database=self._address.database,
        )
        timing = self._timing
        node = Mesa1Node(
            self._address,
            Pipelines(self._address, handshake, timing.timeout),
            Mesa1NodeCommands(self._wire.keys, self.node_id, timing.lease, timing.expiry, membership.grace),
            receive,
            watcher,
            timing.timeout,
            has_portals=membership.portals,
            spreads=self.distribute_load,
        )
        try:
            await node.open()
        except BaseException:
            await node.aclose()
            raise
        self._node = node

    async def aclose(self) -> None:
        """Leave at once, within the time limit, so no id seems to be connected here."""
        node, self._node = self._node, None
        if node is not None:
            await node.aclose()

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare connections of `id` on this node; see `Backend.attach`."""
        return await self._opened().attach(check_id(id), sockets, start)

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self._node is not None:
            self._node.detach(id)

    def connected(self, count: int) -> None:
        """Declare how many connections this node has; see `Backend.connected`."""
        if self._node is not None:
            self._node.connected(count)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages after positions; see `Outbox.read`."""
        return await self._opened().lists.read(reads)

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Forget messages that were received; see `Outbox.acknowledge`."""
        if self._node is not None:
            self._node.lists.acknowledge(acknowledgements)

    async def broadcasts(self, position: Position | None) -> Page:
        """Return an empty page: this wire does not keep messages to everybody."""
        return Page("fresh" if position is None else "resumed", NOWHERE, 0, 0, 0)

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Publish `envelopes`, and store those with a retention for the recipients who are away."""
        return await self._run(self._wire.dispatching(envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Refuse: this wire has no requests.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(NO_REQUESTS)

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        answer: T = await self._run(self._wire.query(query))
        return answer

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._run(self._wire.purge(id))

    def reply(self, requester: str, reply: Reply) -> None:
        """Do nothing: this wire has no requests."""

    @property
    def portals(self) -> tuple[str, ...]:
        """Ids of the portals that take events, as far as this node knows."""
        return self._node.portals.ids if self._node is not None else ()

    @property
    def dropped_events(self) -> int:
        """Number of events that this node dropped since it was opened, because there was no portal."""
        return self._node.portals.dropped if self._node is not None else 0

    async def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Publish an event to a portal, at most once; without portals it is dropped, counted and logged.

        `capacity` has no meaning here: no event waits.

        Raises:
            BackendError: Redis cannot be reached or refuses, and the event was not published.
        """
        return await self._opened().portals.append(event)

    async def _run(self, operation: Operation[T]) -> T:
        return await self._opened().pipelines.run(operation)

    def _opened(self) -> Mesa1Node:
        if self._node is None:
            raise BackendUnavailable(f"{self._address.label}: not open; enter the server first")
        return self._node
