"""Mesa's own wire: its handshake, and the operations of dispatchers."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ...errors import BackendRefused
from ...messages.receipt import Position
from ...messages.recipients import check_id
from ...settings import check_namespace
from ..outbox import Page
from ..queries import ConnectionCount, Heads, Online, OnlineCount, OnlineIds, Peek, Query, check_cursor
from ..redis_client.command import Call, Command
from ..redis_client.failures import is_forbidden, lacking_rights, raise_first
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

    def query(self, query: Query[Any]) -> Operation[Any]:
        """Answer a query."""
        keys = self.keys
        match query:
            case Online(ids):
                calls = node_commands.online(keys, ids)
                return Operation(_commands(calls), partial(node_commands.online_counts, ids))
            case OnlineCount():
                return Operation([node_commands.count(keys)], lambda replies: int(replies[0]))
            case OnlineIds(cursor):
                scan = node_commands.scan_online(keys, check_cursor(cursor))
                return Operation([scan], lambda replies: node_commands.online_page(replies[0]))
            case ConnectionCount():
                return Operation([node_commands.tally(keys).command], lambda replies: int(replies[0]))
            case Heads(ids):
                calls = outbox_commands.heads(keys, ids)
                return Operation(_commands(calls), partial(outbox_commands.outbox_heads, ids))
            case Peek(id, limit):
                call = outbox_commands.peek(keys, id, limit)
                return Operation([call.command], lambda replies: outbox_commands.stored(replies[0]))
        raise NotImplementedError(query)

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


def _commands(calls: Iterable[Call]) -> list[Command]:
    return [call.command for call in calls]
