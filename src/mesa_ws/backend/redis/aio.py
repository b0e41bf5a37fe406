"""Bus over Redis, for asyncio."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from ...concurrency.event_loops import PerLoop
from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...settings import Sync
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.command import Handshake
from ..redis_client.pipelines import Pipelines
from ..redis_wire.operations import NO_REQUESTS, WireOperations
from ..redis_wire.timing import Timing
from .requester import Requester
from .wire import NativeWire

T = TypeVar("T")

NOT_STORED = Sync()


class _Connections(Pipelines):
    """Connections of one event loop; `requester` is None on a wire without requests."""

    def __init__(self, address: Address, wire: WireOperations, handshake: Handshake, timeout: float) -> None:
        super().__init__(address, handshake, timeout)
        self.requester = wire.replies and Requester(
            address, wire.replies, lambda envelopes: self.run(wire.dispatching(envelopes)), timeout
        )

    async def aclose(self) -> None:
        if self.requester is not None:
            await self.requester.aclose()
        await super().aclose()

    def abandon(self) -> None:
        if self.requester is not None:
            self.requester.abandon()
        super().abandon()


class AsyncRedisBus:
    """`AsyncBus` over one ordered connection, which is opened when it is needed.

    Each event loop has a connection and an order of its own. The next call closes the connections of
    loops that have ended. Dispatches with a durability other than `memory` have another connection: they
    are in order among themselves, and after every call that was awaited before they were made.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call, connecting included.
        sync: whether messages will be stored, and whether a Redis that evicts keys is accepted.
        wire: makes the operations of a namespace.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        timeout: float = 5.0,
        sync: Sync = NOT_STORED,
        wire: Callable[[str | None], WireOperations] = NativeWire,
    ) -> None:
        found, timeout = Address.of(address), Timing(timeout=timeout).timeout
        self._wire = wire(namespace)
        handshake = self._wire.handshake(
            stores=sync.enabled, allow_eviction=sync.allow_eviction, database=found.database
        )
        make = partial(_Connections, found, self._wire, handshake, timeout)
        self._per_loop = PerLoop(make, _Connections.aclose, _Connections.abandon)
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> Awaitable[list[Receipt]]:
        """Dispatch `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return self._connections().run(self._wire.dispatching(envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Replies arrive on a second connection, which the first request of an event loop opens.
        """
        requester = self._connections().requester
        if requester is None:
            raise Unsupported(NO_REQUESTS)
        return await requester.request(request, timeout)

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return await self._connections().run(self._wire.query(query))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._connections().run(self._wire.purge(id))

    async def aclose(self) -> None:
        """Disconnect. Pending calls fail; a second call does nothing."""
        self._is_closed = True
        await self._per_loop.aclose()

    def _connections(self) -> _Connections:
        """Return the connections of the running event loop."""
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        entries = self._per_loop.entries
        entry = entries.get(asyncio.get_running_loop()) if len(entries) == 1 else None
        return entry.value if entry is not None else self._per_loop.get()
