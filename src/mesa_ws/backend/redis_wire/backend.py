"""The backend of a server on either wire: it opens a node, and carries out calls on it."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Generic, TypeVar
from uuid import uuid4

from ...errors import BackendUnavailable
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...messages.recipients import check_id
from ..base import DEFAULT_MEMBERSHIP, Membership, Receive, Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Start
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.batch import CallMeter, Operation
from ..redis_client.command import ServerInfo
from ..statistics import Memory, RedisStatistics
from .handshake import INFO
from .node import WireNode
from .operations import WireOperations
from .timing import EXPIRY, Timing

T = TypeVar("T")
WireT = TypeVar("WireT", bound=WireOperations)
NodeT = TypeVar("NodeT", bound=WireNode)


class WireBackend(ABC, Generic[WireT, NodeT]):
    """A node's membership in a cluster, on one of the wires.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        wire: operations of the namespace.
        lease: seconds without a heartbeat after which this node counts as dead.
        timeout: seconds for one call, connecting included.
        expiry: seconds after the last heartbeat until Redis has forgotten the node.

    Attributes:
        node_id: random id of this node, new at every `open`; empty before the first.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self, address: object, wire: WireT, *, lease: float, timeout: float, expiry: float = EXPIRY
    ) -> None:
        self._address = Address.of(address)
        self._wire = wire
        self._timing = Timing(lease=lease, timeout=timeout, expiry=expiry)
        self._node: NodeT | None = None
        self.node_id = ""

    @property
    def is_ready(self) -> bool:
        """Whether messages from other processes reach this node now, for every id it holds."""
        return self._node is not None and self._node.is_ready

    @property
    def joins(self) -> int:
        """How often this node took a lease."""
        return self._node.keeper.joins if self._node is not None else 0

    async def open(
        self, receive: Receive, watcher: Watcher | None = None, membership: Membership = DEFAULT_MEMBERSHIP
    ) -> None:
        """Subscribe and take the lease; see `Backend.open`."""
        self.node_id = uuid4().hex
        node = self._make_node(receive, watcher, membership)
        try:
            await self._enter(node)
        except BaseException:
            await node.aclose()
            raise
        self._node = node

    @abstractmethod
    def _make_node(self, receive: Receive, watcher: Watcher | None, membership: Membership) -> NodeT:
        """Make the node that `open` opens."""

    async def _enter(self, node: NodeT) -> None:
        """Do what makes the node ready for use."""
        await node.open()

    async def aclose(self) -> None:
        """Leave at once, so that no id counts as connected here; within the time limit."""
        node, self._node = self._node, None
        if node is not None:
            await node.aclose()

    def attach(self, id: str, sockets: int, start: Start | None = None) -> Coroutine[Any, Any, Page | None]:
        """Declare connections of `id` on this node; see `Backend.attach`."""
        return self._opened().members.attach(check_id(id), sockets, start)

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self._node is not None:
            self._node.members.detach(id)

    def connected(self, count: int) -> None:
        """Set the number of this node's connections, which the next heartbeat reports to Redis."""
        if self._node is not None:
            self._node.keeper.connections = count

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages after positions; see `Outbox.read`."""
        return await self._opened().members.read(reads)

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Acknowledge received messages; see `Outbox.acknowledge`."""
        if self._node is not None:
            self._node.members.acknowledge(acknowledgements)

    def append(self, event: InboxEvent, capacity: Capacity) -> Awaitable[AppendResult]:
        """Append an event to a queue of portals: by the `append` of the node's wire; see `Inbox.append`."""
        return self._opened().append((event, capacity))

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Dispatch `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return await self._run(self._wire.dispatching(envelopes))

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return await self._run(self._wire.query(query))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._run(self._wire.purge(id))

    @property
    def lost(self) -> int:
        """Number of messages for this node known to be lost since it was opened."""
        return 0

    def statistics(self) -> RedisStatistics:
        """Return how the connections are; see `OverRedis`."""
        node = self._node
        if node is None:
            return RedisStatistics(False, 0, CallMeter(), 0)
        is_connected = node.subscriber.is_subscribed and node.keeper.has_lease
        pipelines = node.pipelines
        reconnects = sum(max(0, each.generation - 1) for each in (pipelines.main, pipelines.heart))
        return RedisStatistics(is_connected, reconnects, pipelines.main.meter, self.lost)

    async def memory(self) -> Memory:
        """Ask Redis how much memory it uses; see `OverRedis`."""
        info = await self._run(Operation([INFO], lambda replies: ServerInfo.of(replies[0])))
        return Memory(info.used_memory, info.max_memory)

    async def _run(self, operation: Operation[T]) -> T:
        return await self._opened().pipelines.run(operation)

    def _opened(self) -> NodeT:
        if self._node is None:
            raise BackendUnavailable(f"{self._address.label}: not open; enter the server first")
        return self._node
