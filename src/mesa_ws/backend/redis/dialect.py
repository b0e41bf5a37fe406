"""What is said to Redis, as values: one dialect for each wire, spoken by the same runners."""

from collections.abc import Iterable
from typing import Protocol

from ...envelope import Envelope, Receipt
from ...id_page import IdPage
from ...receipt_status import OutboxHead
from ...settings import check_namespace
from ...stored import Stored
from .greeting import Greeting
from .keys import Keys
from .operation import (
    Operation,
    counting,
    dispatching,
    heads_of,
    naming,
    peeking,
    presence_of,
    purging,
    tallying,
)
from .rights import of_dispatcher

NO_REQUESTS = "wire 'mesa1': expected no requests, got one; clients of 1.x cannot answer, use wire 'native'"


class Dialect(Protocol):
    """The operations of a bus, in one namespace."""

    @property
    def replies(self) -> Keys | None:
        """Names the channels on which replies to requests come; None where there are no requests."""

    def greeting(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> Greeting:
        """What every connection of a dispatcher begins with; see `Greeting`."""

    def dispatching(self, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
        """Hand envelopes to the nodes that hold a recipient, and store what is to be kept."""

    def heads_of(self, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
        """Tell how far outboxes are."""

    def peeking(self, id: str, limit: int) -> Operation[list[Stored]]:
        """Show the first messages of an outbox."""

    def purging(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox."""

    def presence_of(self, ids: Iterable[str]) -> Operation[dict[str, int]]:
        """Count the connections of each id."""

    def counting(self) -> Operation[int]:
        """Count the ids that have connections."""

    def naming(self, cursor: str) -> Operation[IdPage]:
        """Name some of the ids that have connections."""

    def tallying(self) -> Operation[int]:
        """Count the connections of all nodes, logged in or not."""


class Native:
    """Mesa's own wire.

    Args:
        namespace: of the cluster.

    Raises:
        InvalidSettings: keys cannot be named after it.
    """

    def __init__(self, namespace: str | None) -> None:
        self._keys = Keys(check_namespace(namespace))

    @property
    def replies(self) -> Keys | None:
        """Names the channels on which replies to requests come."""
        return self._keys

    def greeting(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> Greeting:
        """What every connection of a dispatcher begins with; see `Greeting`."""
        rights = of_dispatcher(self._keys, stores=stores)
        return Greeting(self._keys, rights, stores=stores, allow_eviction=allow_eviction)

    def dispatching(self, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
        """Hand envelopes to the nodes that hold a recipient, and store what is to be kept."""
        return dispatching(self._keys, envelopes)

    def heads_of(self, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
        """Tell how far outboxes are."""
        return heads_of(self._keys, ids)

    def peeking(self, id: str, limit: int) -> Operation[list[Stored]]:
        """Show the first messages of an outbox."""
        return peeking(self._keys, id, limit)

    def purging(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox."""
        return purging(self._keys, id)

    def presence_of(self, ids: Iterable[str]) -> Operation[dict[str, int]]:
        """Count the connections of each id."""
        return presence_of(self._keys, ids)

    def counting(self) -> Operation[int]:
        """Count the ids that have connections."""
        return counting(self._keys)

    def naming(self, cursor: str) -> Operation[IdPage]:
        """Name some of the ids that have connections."""
        return naming(self._keys, cursor)

    def tallying(self) -> Operation[int]:
        """Count the connections of all living nodes, logged in or not."""
        return tallying(self._keys)
