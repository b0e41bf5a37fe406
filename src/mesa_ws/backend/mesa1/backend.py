"""A server node's membership in a cluster of the 1.x wire."""

from ...errors import Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Position
from ...messages.request import Reply
from ..base import Membership, Receive, Watcher
from ..outbox import Page, Standing
from ..redis_wire.backend import WireBackend
from ..redis_wire.operations import NO_REQUESTS
from .commands import NOWHERE
from .node import Mesa1Node
from .wire import Mesa1Wire


class Mesa1Backend(WireBackend[Mesa1Wire, Mesa1Node]):
    """`Backend` over the Redis wire of 1.x: servers, dispatchers and clients of npm may take part.

    A message reaches every server of the namespace, and those that hold a recipient deliver it, at most
    once. Messages to everybody are not stored, and 1.x has no status of messages.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: the prefix of 1.x; None for none.
        lease: seconds without a heartbeat after which other nodes treat this node as dead.
        timeout: seconds for one call, connecting included.

    Attributes:
        node_id: random name of this node, new at every `open`; empty before the first.
        joins: always 0: this wire does not keep events.
        wire: name of the wire in settings.
        distribute_load: whether portals take turns; if not, each event goes to a random one.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    wire = "mesa1"
    joins = 0

    def __init__(
        self, address: object, *, namespace: str | None = None, lease: float = 15.0, timeout: float = 5.0
    ) -> None:
        super().__init__(address, Mesa1Wire(namespace, names=True), lease=lease, timeout=timeout)
        self.distribute_load = True

    def connected(self, count: int) -> None:
        """Declare how many connections this node has; see `Backend.connected`."""
        if self._node is not None:
            self._node.connected(count)

    async def broadcasts(self, position: Position | None) -> Page:
        """Return an empty page: this wire does not keep messages to everybody."""
        return Page("fresh" if position is None else "resumed", NOWHERE, 0, 0, 0)

    async def orders(self, position: Position | None) -> Page:
        """Return an empty page: this wire has no orders to all nodes."""
        return await self.broadcasts(position)

    async def standing(self, id: str) -> Standing:
        """Return that there is no order: this wire has none."""
        return Standing()

    def carried_out(self, position: Position) -> None:
        """Do nothing: this wire has no orders."""

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Refuse: this wire has no requests.

        Raises:
            Unsupported: always.
        """
        raise Unsupported(NO_REQUESTS)

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

    def _make_node(self, receive: Receive, watcher: Watcher | None, membership: Membership) -> Mesa1Node:
        if membership.durability != "memory":
            raise Unsupported(
                f"portals.durability: expected 'memory', got {membership.durability!r}; wire 'mesa1' keeps "
                "no events, use wire 'native'"
            )
        about = (self._address, self._wire, self.node_id, self._timing)
        return Mesa1Node(*about, receive, watcher, membership, spreads=self.distribute_load)
