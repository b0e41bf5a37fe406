"""The bus over Redis, for asyncio."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from ...concurrency.event_loops import PerLoop
from ...errors import BackendUnavailable, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Receipt, Stored
from ...settings import Sync
from ..base import IdPage
from ..redis_client.address import Address
from ..redis_client.pipeline import Operation, Pipeline
from .handshake import NativeHandshake, Timing
from .operations import NO_REQUESTS, Dialect, Native
from .requester import Requester

T = TypeVar("T")

NOT_STORED = Sync()


class Pipelines:
    """Two ordered connections of one event loop, made when they are needed.

    What waits for a proof of durability holds up whatever follows it on its connection, so such
    operations have one of their own. Order is kept within each of the two.

    Args:
        address: where to connect.
        handshake: what every connection begins with.
        timeout: seconds for one operation, connecting included.
    """

    def __init__(self, address: Address, handshake: NativeHandshake, timeout: float) -> None:
        self.main = Pipeline(address, handshake, timeout)
        self.durable = Pipeline(address, handshake, timeout)

    async def run(self, operation: Operation[T]) -> T:
        """Carry out `operation`; see `Pipeline.execute`. Without commands it needs no connection."""
        pipeline = self.durable if operation.proof else self.main
        return operation.read(await pipeline.carry_out(operation.batch()) if operation.commands else [])

    async def aclose(self) -> None:
        """Disconnect both."""
        await self.main.aclose()
        await self.durable.aclose()

    def abandon(self) -> None:
        """Close both after the event loop was closed. Never waits."""
        self.main.abandon()
        self.durable.abandon()


class _Own(NamedTuple):
    """What one event loop uses.

    Attributes:
        pipelines: its connections.
        requester: waits for the replies to requests; None where the wire has none.
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
    """`AsyncBus` over one ordered connection, which is made when it is needed.

    Each event loop that calls has a connection and an order of its own. The next call closes what
    belongs to loops that have ended. Dispatches of a durability
    other than `memory` have another connection: they are in order among themselves, and behind
    whatever was awaited before they were called.

    Args:
        address: anything `Address.of` understands.
        namespace: clusters of different namespaces never meet.
        timeout: seconds for one call, connecting included.
        sync: whether messages are going to be stored, and whether a Redis will do that forgets by
            itself.
        dialect: makes what is said to Redis, of the namespace.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        timeout: float = 5.0,
        sync: Sync = NOT_STORED,
        dialect: Callable[[str | None], Dialect] = Native,
    ) -> None:
        self._address = Address.of(address)
        self._dialect = dialect(namespace)
        self._timeout = Timing(timeout=timeout).timeout
        self._handshake = self._dialect.handshake(
            stores=sync.enabled,
            allow_eviction=sync.allow_eviction,
            database=self._address.database,
        )
        self._own = PerLoop(self._make_own, _Own.aclose, _Own.abandon)
        self._is_closed = False

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one round trip; see `AsyncBus.dispatch`."""
        return await self._run(self._dialect.dispatching(envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Replies come in over a second connection, which the first request of an event loop makes.
        """
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        requester = self._own.get().requester
        if requester is None:
            raise Unsupported(NO_REQUESTS)
        return await requester.request(request, timeout)

    async def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are."""
        return await self._run(self._dialect.heads_of(ids))

    async def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first `limit` messages of an outbox without changing anything."""
        return await self._run(self._dialect.peeking(id, limit))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and tell how many."""
        return await self._run(self._dialect.purging(id))

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes."""
        return await self._run(self._dialect.presence_of(ids))

    async def count(self) -> int:
        """Count the ids that have connections, over all living nodes."""
        return await self._run(self._dialect.counting())

    async def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that have connections."""
        return await self._run(self._dialect.naming(cursor))

    async def connections(self) -> int:
        """Count the connections of all nodes, logged in or not."""
        return await self._run(self._dialect.tallying())

    async def aclose(self) -> None:
        """Disconnect. Calls under way fail; calling it again is fine."""
        self._is_closed = True
        await self._own.aclose()

    async def _run(self, operation: Operation[T]) -> T:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")
        return await self._own.get().pipelines.run(operation)

    def _make_own(self) -> _Own:
        pipelines, dialect = Pipelines(self._address, self._handshake, self._timeout), self._dialect
        if dialect.replies is None:
            return _Own(pipelines, None)

        async def dispatch(envelopes: Sequence[Envelope]) -> list[Receipt]:
            return await pipelines.run(dialect.dispatching(envelopes))

        return _Own(pipelines, Requester(self._address, dialect.replies, dispatch, self._timeout))
