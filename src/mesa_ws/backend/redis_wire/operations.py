"""Operations of a bus over Redis, as values that the asyncio and the blocking runner run alike."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ..queries import Query
from ..redis_client.batch import Operation
from .handshake import WireHandshake

T = TypeVar("T")

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

    def query(self, query: Query[T]) -> Operation[T]:
        """Answer a query; raise `Unsupported` if this wire has none."""

    def purge(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox. Not retried: a second run would return 0."""
