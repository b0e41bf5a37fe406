"""The embedded backend: one process, no Redis, the same semantics.

Nothing survives the process. A `MemoryHub` stands for what Redis would be: backends that share
one form a cluster, which is how several servers in one process (and the tests) see each other.
"""

import asyncio
from collections.abc import Iterable, Sequence
from uuid import uuid4

from ..envelope import Envelope, Receipt
from ..errors import BackendUnavailable
from ..recipients import check_id
from ..settings import check_namespace
from .base import Receive


class MemoryHub:
    """What the backends of one cluster share: for every namespace, its nodes and who they hold."""

    def __init__(self) -> None:
        self._seats: dict[str | None, dict[str, _Seat]] = {}

    def seats(self, namespace: str | None) -> "dict[str, _Seat]":
        """The open nodes of a namespace, by node id."""
        return self._seats.setdefault(namespace, {})


class MemoryBackend:
    """A seat at a hub. See `Backend` for what each method promises.

    Args:
        hub: the cluster to join; one of its own by default.
        namespace: clusters of different namespaces at one hub never meet.
    """

    def __init__(self, hub: MemoryHub | None = None, *, namespace: str | None = None) -> None:
        self._namespace = check_namespace(namespace)
        self._seats = (hub or MemoryHub()).seats(self._namespace)
        self._node_id = ""

    @property
    def node_id(self) -> str:
        """Random name of this node; empty until it is open."""
        return self._node_id

    @property
    def is_ready(self) -> bool:
        """Whether the seat is taken."""
        return self._node_id in self._seats

    async def open(self, receive: Receive) -> None:
        """Join the hub."""
        self._node_id = uuid4().hex
        self._seats[self._node_id] = _Seat(receive)

    async def aclose(self) -> None:
        """Leave the hub; what this node held is offline from now on."""
        self._seats.pop(self._node_id, None)

    async def attach(self, id: str, sockets: int) -> None:
        """Declare connections of `id` on this node."""
        self._seat().held[check_id(id)] = sockets

    def detach(self, id: str) -> None:
        """Declare that `id` has left this node."""
        if self.is_ready:
            self._seat().held.pop(id, None)

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id."""
        return self._count(ids)

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Hand `envelopes` to the nodes that hold a recipient.

        They are received in the next turn of the event loop, in order, as from any other bus.
        """
        return [self._dispatch(envelope) for envelope in envelopes]

    def _dispatch(self, envelope: Envelope) -> Receipt:
        recipients, nodes = envelope.recipients, 0
        for seat in self._seats.values():
            here = recipients
            if not recipients.everybody:
                here = recipients._replace(ids=tuple(id for id in recipients.ids if id in seat.held))
            if here.everybody or here.ids:
                nodes += 1
                asyncio.get_running_loop().call_soon(seat.receive, envelope._replace(recipients=here))
        return Receipt.of(envelope.message_id, self._count(recipients.ids), nodes)

    def _count(self, ids: Iterable[str]) -> dict[str, int]:
        return {id: sum(seat.held.get(id, 0) for seat in self._seats.values()) for id in ids}

    def _seat(self) -> "_Seat":
        try:
            return self._seats[self._node_id]
        except KeyError:
            raise BackendUnavailable("the memory backend is not open; enter the server first") from None


class _Seat:
    __slots__ = ("held", "receive")

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.held: dict[str, int] = {}
