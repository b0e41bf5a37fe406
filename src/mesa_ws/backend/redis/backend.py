"""Native Redis backend of a server node."""

from ...errors import BackendRefused
from ...messages.envelope import Envelope
from ...messages.receipt import Position
from ...messages.request import Reply
from ..base import Membership, Receive, Watcher
from ..inbox import Backlog
from ..outbox import Page, Standing
from ..presence import PortalWatch
from ..redis_client.address import Address
from ..redis_client.batch import Operation
from ..redis_client.command import Call, Command, ms
from ..redis_client.pipelines import Pipelines
from ..redis_client.subscriber import Subscriber
from ..redis_wire.backend import WireBackend
from ..redis_wire.lease import Pulse
from ..redis_wire.node import WireNode
from ..redis_wire.timing import BEATS, EXPIRY, Timing
from .channel import Channel
from .inbox_writer import InboxWriter
from .members import Members
from .node_commands import NodeCommands
from .portal_consumer import PortalCommands, read_backlog
from .queue_types import QueueTypes
from .requester import Requester, replying
from .wire import NativeHandshake, NativeWire


class RedisNode(WireNode):
    """An open node.

    Args:
        address: address of Redis.
        wire: operations of the namespace.
        node_id: id of the node.
        timing: durations of the lease and of calls.
        receive: gets the envelopes.
        watcher: learns what happens; None if nothing has to.
        membership: how the node takes part.
    """

    members: Members
    channel: Channel

    def __init__(
        self,
        address: Address,
        wire: NativeWire,
        node_id: str,
        timing: Timing,
        receive: Receive,
        watcher: Watcher | None,
        membership: Membership,
    ) -> None:
        keys, stores = wire.keys, membership.retention is not None
        handshake = NativeHandshake(keys, stores=stores, allow_eviction=membership.allow_eviction)
        pipelines = Pipelines(address, handshake, timing.timeout)
        times = (timing.lease, timing.expiry, membership.grace, membership.window)
        commands = NodeCommands(keys, node_id, *times, membership.portals)
        renewal, retry = timing.expiry / 4, timing.lease / BEATS
        super().__init__(pipelines, commands, watcher, timing, renewal=renewal, retry=retry)
        self.members = Members(
            pipelines.main, self.keeper, commands, self._watcher, self.on_doubt, self._grace_watch.plan
        )
        self._queues = QueueTypes(keys, self.keeper.run, node_id)
        self.inbox = InboxWriter(self.keeper, self._queues, commands, pipelines, membership.durability)
        self.append = self.inbox.appends.call
        self._portals = PortalWatch(self._watcher) if membership.portals else None
        self.channel = Channel(
            receive,
            self.members.table.held,
            self.members.post_detach,
            on_gap=self.on_doubt,
            on_missed=self._watcher.doubted,
            on_failure=self.rereads.soon,
        )
        # A subscription that was lost may have come back to a Redis without data.
        self.subscriber = Subscriber(
            address, [keys.channel(node_id)], self.channel.on_frame, self.on_doubt, timing.timeout
        )
        self.requester = Requester(
            address,
            keys.replies,
            lambda envelopes: pipelines.run(wire.dispatching(envelopes)),
            timing.timeout,
        )

    async def open(self) -> None:
        """Join the cluster, and check that this Redis can make events durable."""
        await super().open()
        self.inbox.check()

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        await self.requester.aclose()
        await super().aclose()

    async def on_beat(self, pulse: Pulse) -> None:
        """Handle a heartbeat, which also reports the living portals."""
        await super().on_beat(pulse)
        self.members.confirm()
        if self._portals is not None:
            self._portals.look(id.decode(errors="replace") for id in pulse.own)

    def on_lost_lease(self) -> None:
        """Announce the ids again: other nodes may have reported them offline."""
        self.members.table.forget_announced()

    async def clean_up(self, call: Call) -> int:
        """Run a call that releases ids and ends connections; return 1 when there may be more."""
        is_repeated = False
        while True:
            try:
                return await super().clean_up(call)
            except BackendRefused as error:
                is_repeated = await self._queues.repair(error, is_repeated=is_repeated)


class RedisBackend(WireBackend[NativeWire, RedisNode]):
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
        super().__init__(address, NativeWire(namespace), lease=lease, timeout=timeout, expiry=expiry)

    @property
    def lost(self) -> int:
        """Number of messages for this node known to be lost since it was opened."""
        return self._node.channel.lost if self._node else 0

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to `*` after a position; see `Outbox.broadcasts`."""
        return await self._run(self._wire.broadcasts(position))

    async def orders(self, position: Position | None) -> Page:
        """Read the orders after a position; see `Orders.orders`."""
        return await self._run(self._wire.orders(position))

    async def standing(self, id: str) -> Standing:
        """Return what a login of an id has to know; see `Orders.standing`."""
        return await self._run(self._wire.standing(id))

    def carried_out(self, position: Position) -> None:
        """Note what this node has carried out; see `Orders.carried_out`."""
        if self._node is not None:
            keys = self._wire.keys
            note: Command = ("HSET", keys.carried_out, self.node_id, f"{position.epoch}:{position.sequence}")
            live: Command = ("PEXPIRE", keys.carried_out, ms(self._timing.expiry))
            self._node.pipelines.main.post([note, live], _nothing)

    async def backlog(self) -> Backlog:
        """Return which events wait for portals; see `WithBacklog`."""
        call = PortalCommands(self._wire.keys, "", self._timing.lease).backlog()
        return await self._run(Operation([call.command], lambda replies: read_backlog(replies[0])))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`."""
        return await self._opened().requester.request(request, timeout)

    def reply(self, requester: str, reply: Reply) -> None:
        """Send a reply to a requester; see `Backend.reply`."""
        if self._node is not None:
            self._node.pipelines.main.post([replying(self._wire.keys, requester, reply)], _nothing)

    def _make_node(self, receive: Receive, watcher: Watcher | None, membership: Membership) -> RedisNode:
        about = (self._address, self._wire, self.node_id, self._timing)
        return RedisNode(*about, receive, watcher, membership)


def _nothing() -> None:
    """Ignore a lost reply: the requester times out."""
