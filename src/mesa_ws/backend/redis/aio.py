"""Bus over Redis, for asyncio."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from ...concurrency.event_loops import PerLoop
from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...settings import Sync
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.pipeline import Pipelines
from ..redis_wire.operations import NO_REQUESTS, WireOperations
from ..redis_wire.timing import Timing
from .requester import Requester
from .wire import NativeWire

T = TypeVar("T")

NOT_STORED = Sync()


class _Own(NamedTuple):
    """Connections of one event loop.

    Attributes:
        pipelines: for operations.
        requester: sends requests and receives their replies; None on a wire without requests.
    """

    pipelines: Pipelines
    requester: Requester | None

    async def aclose(self) -> None:
        if self.requester is not None:
            await self.requester.aclose()
        await self.pipelines.aclose()

    def abandon(self) -> None:
        if self.requester is not None:
            self.requester.abandon()
        self.pipelines.abandon()


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
        self._address = Address.of(address)
        self._wire = wire(namespace)
        self._timeout = Timing(timeout=timeout).timeout
        self._handshake = self._wire.handshake(
            stores=sync.enabled,
            allow_eviction=sync.allow_eviction,
            database=self._address.database,
        )
        self._own = PerLoop(self._make_own, _Own.aclose, _Own.abandon)
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> Coroutine[Any, Any, list[Receipt]]:
        """Dispatch `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return self._here().pipelines.run(self._wire.dispatching(envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Replies arrive on a second connection, which the first request of an event loop opens.
        """
        requester = self._here().requester
        if requester is None:
            raise Unsupported(NO_REQUESTS)
        return await requester.request(request, timeout)

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return await self._here().pipelines.run(self._wire.query(query))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._here().pipelines.run(self._wire.purge(id))

    async def aclose(self) -> None:
        """Disconnect. Pending calls fail; a second call does nothing."""
        self._is_closed = True
        await self._own.aclose()

    def _here(self) -> _Own:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        entries = self._own.entries
        entry = entries.get(asyncio.get_running_loop()) if len(entries) == 1 else None
        return entry.value if entry is not None else self._own.get()

    def _make_own(self) -> _Own:
        pipelines, wire = Pipelines(self._address, self._handshake, self._timeout), self._wire
        if wire.replies is None:
            return _Own(pipelines, None)

        async def dispatch(envelopes: Sequence[Envelope]) -> list[Receipt]:
            return await pipelines.run(wire.dispatching(envelopes))

        return _Own(pipelines, Requester(self._address, wire.replies, dispatch, self._timeout))
