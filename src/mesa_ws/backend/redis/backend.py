"""Native Redis backend of a server node."""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from ...concurrency.tasks import Tasks
from ...errors import BackendUnavailable
from ...messages.envelope import Envelope
from ...messages.receipt import Position, Receipt
from ...messages.recipients import check_id
from ...messages.request import Reply
from ...settings import Durability
from ..base import DEFAULT_MEMBERSHIP, Membership, Receive, Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Start
from ..presence import PortalWatch
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.pipeline import Operation, Pipelines
from ..redis_client.subscriber import Subscriber
from ..redis_wire.lease import GraceWatch, LeaseKeeper
from ..redis_wire.timing import EXPIRY, MISSED, Timing
from .channel import Channel
from .dispatch import dispatching
from .inbox_writer import InboxWriter
from .members import Members
from .node_commands import NodeCommands, Pulse
from .requester import Requester, replying
from .resync import Resync
from .wire import NativeHandshake, NativeWire

T = TypeVar("T")


class NoWatcher:
    """Watcher that ignores every event."""

    async def catch_up(self) -> None:
        """Do nothing."""

    def came_online(self, id: str) -> None:
        """Do nothing."""

    def went_offline(self, id: str) -> None:
        """Do nothing."""

    def portal_joined(self, id: str) -> None:
        """Do nothing."""

    def portal_left(self, id: str) -> None:
        """Do nothing."""

    def forked(self, since: float) -> None:
        """Do nothing."""


class RedisNode:
    """An open node.

    Args:
        address: address of Redis.
        pipelines: connections to it.
        commands: commands of the node.
        receive: gets the envelopes.
        watcher: learns what happens; None if nothing has to.
        timeout: seconds for one call.
        durability: durability that events have to reach before they count as taken.
    """

    def __init__(
        self,
        address: Address,
        pipelines: Pipelines,
        commands: NodeCommands,
        receive: Receive,
        watcher: Watcher | None,
        timeout: float,
        durability: Durability,
    ) -> None:
        self._is_watched = watcher is not None
        watcher = self._watcher = watcher or NoWatcher()
        self.pipelines = pipelines
        self._timeout = timeout
        self._tasks = Tasks()
        self._grace_watch = GraceWatch(pipelines.main, commands, watcher)
        self.keeper = LeaseKeeper(pipelines.main, commands, self, self._tasks)
        self.members = Members(
            pipelines.main, self.keeper, commands, watcher, self.on_doubt, self._grace_watch.plan
        )
        self.inbox = InboxWriter(self.keeper, commands, pipelines, durability)
        self._portals = PortalWatch(watcher)
        self._watches_portals = commands.watches_portals
        self._resync = Resync(self.keeper, commands, self.members, watcher)
        self.channel = Channel(receive, self.members.table.held, self.members.give_up, self.on_doubt)
        # A subscription that was lost may have come back to a Redis without data.
        self._subscriber = Subscriber(
            address, [commands.keys.channel(commands.node)], self.channel.on_frame, self.on_doubt, timeout
        )

    @property
    def is_ready(self) -> bool:
        """Whether messages reach this node, and none has passed it by."""
        return self._subscriber.is_subscribed and self.keeper.has_lease and self._resync.is_synchronized

    async def open(self) -> None:
        """Subscribe, then take the lease: from then on other processes send to this node."""
        await self._subscriber.open()
        await self.keeper.open()
        self.inbox.check()
        self._tasks.start(self._resync.run, "resync")
        if self._is_watched:
            self._tasks.start(self._grace_watch.run, "grace watch")

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._tasks.aclose(self._timeout)
                    await self.keeper.leave()
        finally:
            await self._subscriber.aclose()
            await self.pipelines.aclose()

    async def on_beat(self, pulse: Pulse) -> None:
        """Handle a heartbeat: if the markers of earlier ones never arrived, the subscription is dead."""
        self.channel.unheard += 1
        if self.channel.unheard > MISSED:
            self.channel.unheard = 0
            await self._subscriber.restart()
        if pulse.was_passed_over:
            self.on_doubt()
        self.members.confirm()
        since = self.keeper.runs.ended(pulse.run)
        if since is not None:
            self._watcher.forked(since)
        if self._watches_portals:
            self._portals.look(id.decode(errors="replace") for id in pulse.portals)
        if pulse.gone:
            self._grace_watch.look()

    def on_doubt(self) -> None:
        """Synchronize soon: messages may have been missed, or Redis may have lost data."""
        self._resync.doubt()

    def on_lost_lease(self) -> None:
        """Announce the ids again: other nodes may have reported them offline."""
        self.members.table.forget_announced()


class RedisBackend:
    """`Backend` over Redis: any number of processes form one cluster.

    Each node has a channel, to which Redis publishes the messages whose recipients the node holds. A
    message published while the node was cut off is lost there: it is counted in `lost` and logged, and
    the node reads the stored ones from Redis.

    Messages with a durability other than `memory` go over a connection of their own: they are in order
    among themselves, and after every call that was awaited before.

    The first node that looks after the end of a grace reports the id offline; if the reply of Redis is
    lost in that moment, no node reports it. After Redis lost all its data, the present ids come online
    again.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: clusters of different namespaces at one Redis never meet.
        lease: seconds without a heartbeat after which this node counts as dead.
        timeout: seconds for one call, connecting included.
        expiry: seconds after the last heartbeat until only messages for clients and events for portals
            are left of a cluster in Redis.

    Attributes:
        node_id: random id of this node, new at every `open`; empty before the first.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        lease: float = 15.0,
        timeout: float = 5.0,
        expiry: float = EXPIRY,
    ) -> None:
        self._address = Address.of(address)
        self._wire = NativeWire(namespace)
        self._keys = self._wire.keys
        self._timing = Timing(lease=lease, timeout=timeout, expiry=expiry)
        self._node: RedisNode | None = None
        self._requester: Requester | None = None
        self.node_id = ""

    @property
    def is_ready(self) -> bool:
        """Whether messages from other processes reach this node now, for every id it holds."""
        return self._node is not None and self._node.is_ready

    @property
    def lost(self) -> int:
        """Number of messages for this node known to be lost since it was opened."""
        return self._node.channel.lost if self._node else 0

    async def open(
        self, receive: Receive, watcher: Watcher | None = None, membership: Membership = DEFAULT_MEMBERSHIP
    ) -> None:
        """Subscribe and take the lease; see `Backend.open`."""
        self.node_id = uuid4().hex
        timing = self._timing
        stores, allow_eviction = membership.retention is not None, membership.allow_eviction
        handshake = NativeHandshake(self._keys, stores=stores, allow_eviction=allow_eviction)
        pipelines = Pipelines(self._address, handshake, timing.timeout)
        commands = NodeCommands(
            self._keys,
            self.node_id,
            timing.lease,
            timing.expiry,
            membership.grace,
            membership.window,
            membership.portals,
        )
        node = RedisNode(
            self._address, pipelines, commands, receive, watcher, timing.timeout, membership.durability
        )
        try:
            await node.open()
        except BaseException:
            await node.aclose()
            raise
        self._node = node
        self._requester = Requester(self._address, self._keys.replies, self.dispatch, timing.timeout)

    async def aclose(self) -> None:
        """Leave at once, so that no id counts as connected here; within the time limit."""
        requester, self._requester = self._requester, None
        if requester is not None:
            await requester.aclose()
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

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to `*` after a position; see `Outbox.broadcasts`."""
        return await self._run(self._wire.broadcasts(position))

    @property
    def joins(self) -> int:
        """How often this node took a lease."""
        return self._node.keeper.joins if self._node is not None else 0

    def append(self, event: InboxEvent, capacity: Capacity) -> Awaitable[AppendResult]:
        """Append an event to its queue; see `Inbox.append`."""
        return self._opened().inbox.appends.call((event, capacity))

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Dispatch `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return await self._run(dispatching(self._keys, envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`."""
        if self._requester is None:
            raise BackendUnavailable(f"{self._address.label}: not open; enter the server first")
        return await self._requester.request(request, timeout)

    def reply(self, requester: str, reply: Reply) -> None:
        """Send a reply to a requester; see `Backend.reply`."""
        if self._node is not None:
            self._node.pipelines.main.post([replying(self._keys, requester, reply)], _nothing)

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        answer: T = await self._run(self._wire.query(query))
        return answer

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._run(self._wire.purge(id))

    async def _run(self, operation: Operation[T]) -> T:
        return await self._opened().pipelines.run(operation)

    def _opened(self) -> RedisNode:
        if self._node is None:
            raise BackendUnavailable(f"{self._address.label}: not open; enter the server first")
        return self._node


def _nothing() -> None:
    """Ignore a lost reply: the requester times out."""
