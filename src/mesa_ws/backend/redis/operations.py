"""What the buses do, as values that the asyncio and the blocking runner carry out alike."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Position, Receipt, Stored
from ...messages.recipients import check_id, check_ids
from ...settings import check_namespace
from ..base import IdPage, check_cursor
from ..outbox import Page
from ..redis_client.command import Call, Command
from ..redis_client.pipeline import Operation
from .dispatch import dispatching, warn_of_corruption
from .handshake import NativeHandshake
from .keys import Keys
from .node_commands import count, online, online_counts, online_page, scan_online, tally
from .outbox_commands import broadcast_answer, broadcasts, heads, outbox_heads, peek, purge, stored
from .rights import of_dispatcher


def heads_of(keys: Keys, ids: Iterable[str]) -> Operation[dict[str, OutboxHead | None]]:
    """Tell how far outboxes are."""
    wanted = check_ids(ids)
    return Operation(_commands(heads(keys, wanted)), partial(outbox_heads, wanted))


def peeking(keys: Keys, id: str, limit: int) -> Operation[list[Stored]]:
    """Show the first messages of an outbox."""
    return Operation(_commands([peek(keys, check_id(id), limit)]), lambda replies: stored(replies[0]))


def purging(keys: Keys, id: str) -> Operation[int]:
    """Drop the messages of an outbox. Not retried: a second run would return 0."""
    commands = _commands(purge(keys, [check_id(id)]))
    return Operation(commands, lambda replies: int(replies[0][0]), is_repeatable=False)


def broadcasts_after(keys: Keys, position: Position | None) -> Operation[Page]:
    """Read the messages to everybody after a position."""

    def page(replies: Sequence[Any]) -> Page:
        answer = broadcast_answer(replies[0])
        warn_of_corruption(keys, ["*"] if answer.is_corrupt else [])
        return answer.page

    return Operation(_commands([broadcasts(keys, position)]), page)


def presence_of(keys: Keys, ids: Iterable[str]) -> Operation[dict[str, int]]:
    """Count the connections of each id."""
    wanted = check_ids(ids)
    return Operation(_commands(online(keys, wanted)), partial(online_counts, wanted))


def counting(keys: Keys) -> Operation[int]:
    """Count the ids that have connections."""
    return Operation([count(keys)], lambda replies: int(replies[0]))


def naming(keys: Keys, cursor: str) -> Operation[IdPage]:
    """Name some of the ids that have connections."""
    return Operation([scan_online(keys, check_cursor(cursor))], lambda replies: online_page(replies[0]))


def tallying(keys: Keys) -> Operation[int]:
    """Count the connections of all living nodes, logged in or not."""
    return Operation(_commands([tally(keys)]), lambda replies: int(replies[0]))


def _commands(calls: Iterable[Call]) -> list[Command]:
    return [call.command for call in calls]


NO_REQUESTS = "wire 'mesa1': expected no requests, got one; clients of 1.x cannot answer, use wire 'native'"


class Dialect(Protocol):
    """The operations of a bus, in one namespace."""

    @property
    def replies(self) -> Keys | None:
        """Names the channels on which replies to requests come; None where there are no requests."""

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> NativeHandshake:
        """What every connection of a dispatcher begins with; see `Handshake`."""

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

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> NativeHandshake:
        """What every connection of a dispatcher begins with; see `Handshake`."""
        rights = of_dispatcher(self._keys, stores=stores)
        return NativeHandshake(self._keys, rights, stores=stores, allow_eviction=allow_eviction)

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
