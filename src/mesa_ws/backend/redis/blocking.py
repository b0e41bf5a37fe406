"""Bus over Redis, for threads."""

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...settings import Sync
from ..queries import Query
from ..redis_client.address import Address
from ..redis_client.batch import Operation
from ..redis_client.pool import Pool
from ..redis_wire.operations import NO_REQUESTS, WireOperations
from ..redis_wire.timing import Timing
from .requester import BlockingRequester
from .wire import NativeWire

T = TypeVar("T")

NOT_STORED = Sync()


class BlockingRedisBus:
    """`BlockingBus` over a pool of connections, which are opened when they are needed.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call: waiting for a connection, connecting, writing and reading.
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
        handshake = self._wire.handshake(
            stores=sync.enabled, allow_eviction=sync.allow_eviction, database=self._address.database
        )
        self._pool = Pool(self._address, handshake)
        self._requester = (
            BlockingRequester(self._address, self._wire.replies, self._wire.dispatching, self._run)
            if self._wire.replies
            else None
        )
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Dispatch `envelopes` in one round trip; see `BlockingBus.dispatch`."""
        return self._run(self._wire.dispatching(envelopes))

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Each request has a connection of its own, on which its thread waits for the replies.
        """
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        if self._requester is None:
            raise Unsupported(NO_REQUESTS)
        return self._requester.request(request, timeout)

    def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return self._run(self._wire.query(query))

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return self._run(self._wire.purge(id))

    def close(self) -> None:
        """Release connections. Later calls fail; a second call does nothing."""
        self._is_closed = True
        self._pool.close()

    def _run(self, operation: Operation[T], deadline: float | None = None) -> T:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        return self._pool.run(operation, deadline or time.monotonic() + self._timeout)
