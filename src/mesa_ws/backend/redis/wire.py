"""Operations of a bus over Redis, as values that the asyncio and the blocking runner run alike."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Position, Receipt, Stored
from ...messages.recipients import check_id, check_ids
from ...settings import check_namespace
from ..base import IdPage, check_cursor
from ..outbox import Page
from ..redis_client.command import Call, Command
from ..redis_client.pipeline import Operation
from ..redis_wire.handshake import NativeHandshake
from ..redis_wire.rights import of_dispatcher
from . import node_commands, outbox_commands
from .dispatch import dispatching, warn_of_corruption
from .keys import Keys

NO_REQUESTS = "wire 'mesa1' has no requests, since clients of 1.x cannot answer; use wire='native'"


class WireOperations(Protocol):
    """Operations of one namespace, on one of the two wires."""

    @property
    def replies(self) -> Keys | None:
        """Names of the channels on which replies to requests arrive; None on a wire without requests."""

    @property
    def dispatching(self) -> Callable[[Iterable[Envelope]], Operation[list[Receipt]]]:
        """Pass envelopes to the nodes that hold a recipient, and store those with a retention."""

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> NativeHandshake:
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


class NativeWire:
    """Mesa's own wire; a `WireOperations`.

    Args:
        namespace: namespace of the cluster.

    Attributes:
        keys: names of the namespace.

    Raises:
        InvalidSettings: the namespace is invalid.
    """

    def __init__(self, namespace: str | None) -> None:
        self.keys = Keys(check_namespace(namespace))
        self.dispatching = partial(dispatching, self.keys)

    @property
    def replies(self) -> Keys | None:
        """Names of the channels on which replies to requests arrive."""
        return self.keys

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> NativeHandshake:
        """Return the first commands of a dispatcher's connections; see `Handshake`."""
        rights = of_dispatcher(self.keys, stores=stores)
        return NativeHandshake(self.keys, rights, stores=stores, allow_eviction=allow_eviction)

    def heads(self, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
        """Read where outboxes stand."""
        wanted = check_ids(ids)
        calls = outbox_commands.heads(self.keys, wanted)
        return Operation(_commands(calls), partial(outbox_commands.outbox_heads, wanted))

    def peek(self, id: str, limit: int) -> Operation[list[Stored]]:
        """Read the first messages of an outbox."""
        call = outbox_commands.peek(self.keys, check_id(id), limit)
        return Operation([call.command], lambda replies: outbox_commands.stored(replies[0]))

    def purge(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox. Not retried: a second run would return 0."""
        calls = outbox_commands.purge(self.keys, [check_id(id)])
        return Operation(_commands(calls), lambda replies: int(replies[0][0]), is_repeatable=False)

    def broadcasts(self, position: Position | None) -> Operation[Page]:
        """Read the messages to `*` after a position."""

        def page(replies: Sequence[Any]) -> Page:
            answer = outbox_commands.broadcast_answer(replies[0])
            warn_of_corruption(self.keys, ["*"] if answer.is_corrupt else [])
            return answer.page

        return Operation([outbox_commands.broadcasts(self.keys, position).command], page)

    def online(self, ids: Iterable[str]) -> Operation[dict[str, int]]:
        """Count the connections of each id."""
        wanted = check_ids(ids)
        calls = node_commands.online(self.keys, wanted)
        return Operation(_commands(calls), partial(node_commands.online_counts, wanted))

    def count(self) -> Operation[int]:
        """Count the ids that have connections."""
        return Operation([node_commands.count(self.keys)], lambda replies: int(replies[0]))

    def some_ids(self, cursor: str) -> Operation[IdPage]:
        """Read a page of the ids that have connections."""
        scan = node_commands.scan_online(self.keys, check_cursor(cursor))
        return Operation([scan], lambda replies: node_commands.online_page(replies[0]))

    def connections(self) -> Operation[int]:
        """Count the connections of all living nodes, logged in or not."""
        return Operation([node_commands.tally(self.keys).command], lambda replies: int(replies[0]))


def _commands(calls: Iterable[Call]) -> list[Command]:
    return [call.command for call in calls]
