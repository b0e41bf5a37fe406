"""Operations of a bus over Redis, as values that the asyncio and the blocking runner run alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Receipt, Stored
from ..base import IdPage
from ..redis_client.pipeline import Operation
from .handshake import WireHandshake

NO_REQUESTS = "wire 'mesa1' has no requests, since clients of 1.x cannot answer; use wire='native'"


class WireOperations(Protocol):
    """Operations of one namespace, on one of the two wires."""

    @property
    def replies(self) -> Callable[[str], str] | None:
        """Name the channel on which replies to a requester arrive; None on a wire without requests."""

    @property
    def dispatching(self) -> Callable[[Iterable[Envelope]], Operation[list[Receipt]]]:
        """Pass envelopes to the nodes that hold a recipient, and store those with a retention."""

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> WireHandshake:
        """Return the first commands of a dispatcher's connections; see `Handshake`."""

    def heads(self, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
        """Read where outboxes stand."""

    def peek(self, id: str, limit: int) -> Operation[list[Stored]]:
        """Read the first messages of an outbox."""

    def purge(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox. Not retried: a second run would return 0."""

    def online(self, ids: Iterable[str]) -> Operation[dict[str, int]]:
        """Count the connections of each id."""

    def count(self) -> Operation[int]:
        """Count the ids that have connections."""

    def some_ids(self, cursor: str) -> Operation[IdPage]:
        """Read a page of the ids that have connections."""

    def connections(self) -> Operation[int]:
        """Count the connections of all living nodes, logged in or not."""


WireT = TypeVar("WireT", bound=WireOperations)
T = TypeVar("T")


class AsyncQueries(ABC, Generic[WireT]):
    """The queries about ids and outboxes, for asyncio: one for dispatchers and servers, on both wires."""

    _wire: WireT

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T:
        """Carry out an operation on the connections of this process."""

    async def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Return where the outboxes of `ids` stand.

        Raises:
            Unsupported: this wire has no positions.
        """
        return await self._run(self._wire.heads(ids))

    async def peek(self, id: str, limit: int) -> list[Stored]:
        """Return the first `limit` messages of an outbox, and change nothing."""
        return await self._run(self._wire.peek(id, limit))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and return how many."""
        return await self._run(self._wire.purge(id))

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id over all living nodes; one that only servers of 1.x hold has 1."""
        return await self._run(self._wire.online(ids))

    async def count(self) -> int:
        """Count the ids that have connections, over all living nodes."""
        return await self._run(self._wire.count())

    async def some_ids(self, cursor: str) -> IdPage:
        """Return a page of the ids that have connections."""
        return await self._run(self._wire.some_ids(cursor))

    async def connections(self) -> int:
        """Count the connections of all living nodes, authenticated or not, as of their last heartbeats."""
        return await self._run(self._wire.connections())
