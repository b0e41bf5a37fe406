"""A server node's seat in a cluster that shares a Redis."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from uuid import uuid4

from ...envelope import Envelope, Receipt
from ...errors import BackendUnavailable
from ...recipients import check_id
from ...settings import check_namespace
from ..base import Receive
from .address import Address
from .aio import dispatch
from .keeper import BEATS, Keeper
from .keys import EXPIRY, Keys
from .link import Link
from .listener import Listener
from .plan import Seat, online, online_counts
from .reader import Reader
from .roster import Roster
from .timing import Timing


class RedisBackend:
    """`Backend` over Redis: any number of processes form one cluster.

    Messages reach a node as hints on a channel of its own, which hears only of messages that it
    holds a recipient of. One that was published while the node was cut off is lost: that is
    counted in `lost` and logged.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: clusters of different namespaces at one Redis never meet.
        lease: seconds without a sign of life after which others take this node for dead.
        timeout: seconds for one call, connecting included.
        expiry: seconds after the last heartbeat until nothing of a cluster is left in Redis.

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
        self._keys = Keys(check_namespace(namespace))
        self._timing = Timing(lease=lease, timeout=timeout, expiry=expiry)
        self._node: _Node | None = None
        self._node_id = ""

    @property
    def node_id(self) -> str:
        """Random name of this node, new at every `open`; empty before the first."""
        return self._node_id

    @property
    def is_ready(self) -> bool:
        """Whether messages from other processes reach this node now, for every id it holds."""
        return self._node is not None and self._node.is_ready

    @property
    def lost(self) -> int:
        """Messages for this node that are known to be lost since it was opened."""
        return self._node.listener.lost if self._node else 0

    async def open(self, receive: Receive) -> None:
        """Subscribe and take the lease; see `Backend.open`."""
        self._node_id = uuid4().hex
        timing = self._timing
        link = Link(self._address, self._keys, timing.timeout)
        seat = Seat(self._keys, self._node_id, timing.lease, timing.expiry)
        node = _Node(link, seat, receive, self._address, timing.timeout)
        try:
            await node.open()
        except BaseException:
            await node.aclose()
            raise
        self._node = node

    async def aclose(self) -> None:
        """Leave at once, so that no id seems to be here; within the time limit."""
        node, self._node = self._node, None
        if node is not None:
            await node.aclose()

    async def attach(self, id: str, sockets: int) -> None:
        """Declare connections of `id` on this node; see `Presence.attach`."""
        await self._opened().attach(check_id(id), sockets)

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self._node is not None:
            self._node.detach(id)

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes."""
        wanted = list(dict.fromkeys(check_id(id) for id in ids))
        calls = online(self._keys, wanted)
        replies = await self._opened().link.execute([call.command for call in calls]) if calls else []
        return online_counts(wanted, replies)

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Hand `envelopes` to the nodes that hold a recipient, in one round trip."""
        return await dispatch(self._opened().link, self._keys, envelopes)

    def _opened(self) -> "_Node":
        if self._node is None:
            raise BackendUnavailable(f"{self._address.label}: not open; enter the server first")
        return self._node


class _Node:
    """The parts of an open node."""

    def __init__(self, link: Link, seat: Seat, receive: Receive, address: Address, timeout: float) -> None:
        self.link = link
        self.listener = Listener(receive, Roster(), self._send_away)
        self._roster = self.listener.roster
        self._seat = seat
        self._timeout = timeout
        self._keeper = Keeper(link, seat, self._roster, self._on_beat)
        # Who was away may have come back to a Redis that forgot everything.
        self._reader = Reader(
            address, seat.keys.channel(seat.node), self.listener.on_frame, self._keeper.doubt, timeout
        )

    @property
    def is_ready(self) -> bool:
        return self._reader.is_subscribed and self._keeper.is_settled

    async def open(self) -> None:
        """Listen first: from the lease on, others send."""
        await self._reader.open()
        await self._keeper.open()

    async def aclose(self) -> None:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._keeper.aclose()
        finally:
            await self._reader.aclose()
            await self.link.aclose()

    async def attach(self, id: str, sockets: int) -> None:
        entry = self._roster.put(id, sockets)
        try:
            await self._keeper.attach({id: entry})
        except BaseException:
            self._correct(id)
            raise

    def detach(self, id: str) -> None:
        self._roster.drop(id)
        self._correct(id)

    def _correct(self, id: str) -> None:
        """Make Redis agree with the roster about one id, without waiting."""
        entry = self._roster.get(id)
        call = self._seat.attach({id: entry}) if entry else self._seat.detach([id], self._roster.version)
        self.link.post([call.command], self._keeper.doubt)

    def _send_away(self, strangers: list[str]) -> None:
        """Others believe ids to be here that are not; tell Redis."""
        self.link.post([self._seat.detach(strangers, self._roster.version).command], self._keeper.doubt)

    async def _on_beat(self) -> None:
        """A marker is under way; if those before it never came, the subscription is dead."""
        self.listener.unheard += 1
        if self.listener.unheard > BEATS:
            self.listener.unheard = 0
            await self._reader.restart()
