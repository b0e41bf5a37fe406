"""Mesa's own wire: its handshake, and the operations of dispatchers."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ...errors import BackendRefused
from ...messages.receipt import OutboxHead, Position, Stored
from ...messages.recipients import check_id, check_ids
from ...settings import check_namespace
from ..base import IdPage, check_cursor
from ..outbox import Page
from ..redis_client.command import Call, Command
from ..redis_client.connection import is_forbidden, lacking_rights, raise_first
from ..redis_client.pipeline import Operation
from ..redis_wire.handshake import WireHandshake
from ..redis_wire.rights import Rights
from . import node_commands, outbox_commands
from .dispatch import dispatching, warn_of_corruption
from .keys import PARTITIONS, Keys
from .rights import of_dispatcher, of_server
from .scripts import LEAVE, SCRIPTS

LEFT = 15.0
"""Seconds for which a master that was left stores nothing; Sentinels make it a replica by then."""


class NativeHandshake(WireHandshake):
    """First commands on each connection; they also check the layout of the cluster.

    Args:
        keys: names of the namespace.
        rights: the rights that the process needs; None for those of a server.
        stores: whether messages will be stored there.
        allow_eviction: store messages even in a Redis that evicts keys.
    """

    scripts = SCRIPTS
    wire, other_wire = "native", "mesa1"

    def __init__(
        self, keys: Keys, rights: Rights | None = None, *, stores: bool = False, allow_eviction: bool = False
    ) -> None:
        super().__init__(rights or of_server(keys), stores=stores, allow_eviction=allow_eviction)
        self._keys = keys
        self.other_leases = keys.leases_of_1x
        self.own_commands = [("HGET", keys.meta, "partitions")]

    @property
    def farewell(self) -> list[Command]:
        """Have the old master store nothing for a while; its replies are ignored."""
        marks = (self._keys.left, self._keys.broadcasts_left)
        return [Call(LEAVE, (mark,), (round(LEFT * 1000),)).command for mark in marks]

    def check_own(self, where: str, replies: Sequence[Any]) -> None:
        """Check the layout.

        Raises:
            BackendRefused: the cluster has another one, so this process would not find its messages.
        """
        (found,) = replies
        if is_forbidden(found):
            raise lacking_rights(where, ["+hget", f"%R~{self._keys.meta}"])
        raise_first(replies)
        if found is not None and found != b"%d" % PARTITIONS:
            raise BackendRefused(
                f"{self._keys.meta}: another version of Mesa made this cluster with "
                f"{found.decode(errors='replace')[:20]} partitions, and this one uses {PARTITIONS}; run one "
                "version everywhere, or use another namespace"
            )


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
    def replies(self) -> Callable[[str], str] | None:
        """Name the channel on which replies to a requester arrive."""
        return self.keys.replies

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
