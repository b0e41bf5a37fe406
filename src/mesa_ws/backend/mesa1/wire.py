"""The handshake and the operations of dispatchers on the wire of 1.x."""

import logging
import math
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from ...errors import BackendRefused, Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt, Stored
from ...messages.recipients import check_id
from ...settings import check_namespace
from ..queries import (
    CarriedOut,
    ConnectionCount,
    Heads,
    IdPage,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
    check_cursor,
)
from ..redis_client.batch import Operation
from ..redis_client.command import MAX_IDS, MAX_SCANNED, Call, Command, ServerInfo, chunks
from ..redis_client.failures import is_forbidden
from ..redis_wire.handshake import WireHandshake
from ..redis_wire.rights import Rights
from . import commands
from . import rights as rights_of
from .commands import ONLINE, PURGE, SCRIPTS
from .keys import Mesa1Keys
from .outbox import WaitingList

_log = logging.getLogger("mesa_ws.backend")

_HAS_WARNED = threading.Event()

DATABASES = 16
"""Databases that are searched for other processes of the namespace: as many as Redis has by default."""

NO_STATUS = (
    "wire 'mesa1' has no status of messages: 1.x keeps lists that do not say what became of a message; use "
    "wire 'native' for that"
)

NO_ORDERS = (
    "wire 'mesa1' has no disconnect and no revoke, since 1.x keeps no orders for servers that are cut off; "
    "dispatch DispatchEvent('DISCONNECT_CLIENT'), or use wire 'native'"
)


HELLO: Command = ("HELLO",)
"""Asks for the description that users without the right to INFO may read."""


class Mesa1Handshake(WireHandshake):
    """First commands on each connection: checks no layout, for 1.x has none.

    Keys of Redis belong to a database, channels do not. So processes on two databases of one Redis hear each
    other's messages, but do not find each other's connections: the handshake looks for that, and warns.

    Args:
        keys: names of the namespace.
        rights: the rights that the process needs.
        stores: whether messages are going to be stored there.
        allow_eviction: store them even in a Redis that may evict them.
        database: number of the database that the process uses.
    """

    scripts = SCRIPTS
    wire, other_wire = "mesa1", "native"

    def __init__(
        self,
        keys: Mesa1Keys,
        rights: Rights,
        *,
        stores: bool = False,
        allow_eviction: bool = False,
        database: int = 0,
    ) -> None:
        super().__init__(rights, stores=stores, allow_eviction=allow_eviction)
        self._database = database
        self._others = {keys.database(number): number for number in range(DATABASES) if number != database}
        self.other_leases = keys.native_leases
        self.own_commands = [HELLO, ("PUBSUB", "NUMSUB", *self._others)]
        self._is_unknown = self._has_warned_of_unknown = self._has_warned_of_database = False

    def server_info(self, about: Any, own: Sequence[Any]) -> ServerInfo:
        """Read the reply to `INFO`; as for 1.x, the user need not have the right to it."""
        self._is_unknown = is_forbidden(about)
        return ServerInfo.of_hello(own[0]) if self._is_unknown else super().server_info(about, own)

    def check_own(self, where: str, replies: Sequence[Any]) -> None:
        """Warn once of processes that listen on other databases; an error says nothing about them."""
        elsewhere = replies[1]
        if self._has_warned_of_database or not isinstance(elsewhere, list):
            return
        for channel, listeners in chunks(elsewhere, 2):
            if listeners:
                self._has_warned_of_database = True
                _log.warning(
                    "%s: %d processes of this namespace use database %d, and this one database %d; on wire "
                    "'mesa1' they get each other's messages, as channels of Redis belong to no database; "
                    "give each application a namespace of its own",
                    where,
                    listeners,
                    self._others[channel.decode()],
                    self._database,
                )
                return

    def check_store(self, where: str, info: ServerInfo) -> None:
        """Check that this Redis keeps stored messages, where it says so."""
        if not self._is_unknown:
            super().check_store(where, info)
        elif not self._has_warned_of_unknown:
            self._has_warned_of_unknown = True
            _log.warning(
                "%s: its user has no right to INFO, so it is not known whether Redis evicts stored messages; "
                "grant +info",
                where,
            )


class Mesa1Wire:
    """Operations on the wire of 1.x; a `WireOperations`.

    Args:
        namespace: of the cluster.
        names: whether messages carry their ids to servers, as the messages of servers do.

        Raises:
        InvalidSettings: the namespace cannot be part of keys.
    """

    def __init__(self, namespace: str | None, *, names: bool = False) -> None:
        self.keys = Mesa1Keys(check_namespace(namespace))
        self.replies = None
        self._names = names

    def handshake(self, *, stores: bool, allow_eviction: bool, database: int = 0) -> WireHandshake:
        """Return the handshake of a dispatcher's connections."""
        rights = rights_of.of_dispatcher(self.keys, stores=stores)
        return Mesa1Handshake(
            self.keys, rights, stores=stores, allow_eviction=allow_eviction, database=database
        )

    def dispatching(self, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
        """Publish envelopes, and store those with a retention for ids that are away.

        Raises:
            Unsupported: an envelope is an order, has another durability than `memory`, or a delivery policy.
        """
        envelopes = tuple(envelopes)
        for envelope in envelopes:
            _check_offered(envelope)
        dispatches = [commands.Mesa1Dispatch.of(self.keys, each, is_named=self._names) for each in envelopes]

        def read(replies: Sequence[Any]) -> list[Receipt]:
            rest = iter(replies)
            return [each.receipt(self.keys, list(islice(rest, len(each.calls)))) for each in dispatches]

        calls = [call.command for dispatch in dispatches for call in dispatch.calls]
        known_for = min((each.remember for each in envelopes), default=math.inf)
        return Operation(calls, read, known_for > 0, known_for=known_for)

    def query(self, query: Query[Any]) -> Operation[Any]:
        """Answer a query.

        An id that only servers of 1.x hold counts as one connection. Messages of an outbox have neither ids
        nor times.

        Raises:
            Unsupported: 1.x has no heads.
        """
        keys = self.keys
        match query:
            case Online(ids):
                own, where = (keys.leases, keys.connected), (keys.messages, keys.channels)
                calls = [
                    Call(ONLINE, (*own, *map(keys.user, some)), (*where, *some)).command
                    for some in chunks(ids, MAX_IDS)
                ]
                return Operation(calls, lambda replies: dict(zip(ids, chain(*replies), strict=True)))
            case OnlineCount():
                return Operation([("SCARD", keys.connected)], lambda replies: int(replies[0]))
            case OnlineIds(cursor):
                scan = ("SSCAN", keys.connected, check_cursor(cursor), "COUNT", MAX_SCANNED)
                return Operation([scan], _id_page)
            case ConnectionCount():
                return Operation([("GET", keys.connections)], partial(_connection_count, keys))
            case Heads() | CarriedOut():
                raise Unsupported(NO_STATUS)
            case Peek(id, limit):
                return Operation([commands.kept(keys, [id])], partial(_first_messages, max(1, limit)))
        raise NotImplementedError(query)

    def purge(self, id: str) -> Operation[int]:
        """Drop the messages that wait for an id. Not retried: a second run would return 0."""
        call = Call(PURGE, (self.keys.undelivered,), (check_id(id),))
        return Operation(
            [call.command], lambda replies: len(WaitingList.of(replies[0]).messages), is_repeatable=False
        )


def ignore(payload: bytes) -> None:
    """Ignore payloads on the channel of a database; the subscription itself is the signal."""


def _id_page(replies: Sequence[Any]) -> IdPage:
    [[cursor, ids]] = replies
    return IdPage(
        tuple(id.decode(errors="replace") for id in ids), None if cursor == b"0" else cursor.decode()
    )


def _connection_count(keys: Mesa1Keys, replies: Sequence[Any]) -> int:
    """Read the number of connections, as servers of both kinds have counted it.

    Raises:
        BackendRefused: it is no number.
    """
    try:
        return max(0, int(replies[0] or 0))
    except ValueError:
        raise BackendRefused(
            f"{keys.connections}: expected a number of connections, got something else; delete it"
        ) from None


def _first_messages(limit: int, replies: Sequence[Any]) -> list[Stored]:
    [[raw]] = replies
    shown = WaitingList.of(raw).messages[:limit]
    return [Stored(number, "", 0.0, 0.0, each.frame) for number, each in enumerate(shown, 1)]


def _check_offered(envelope: Envelope) -> None:
    if envelope.kind == "order":
        raise Unsupported(NO_ORDERS)
    if envelope.durability != "memory":
        raise Unsupported(
            f"durability: expected 'memory', got {envelope.durability!r}; wire 'mesa1' promises no more, "
            "use wire 'native'"
        )
    if envelope.delivery:
        raise Unsupported(
            f"delivery: expected None, got {envelope.delivery!r}; wire 'mesa1' cannot say that a message may "
            "be dropped or replaced, use wire 'native'"
        )
    if envelope.recipients.everybody and envelope.recipients.excluding and not _HAS_WARNED.is_set():
        _HAS_WARNED.set()
        _log.warning(
            "a message to everybody excludes ids: servers of 1.x do not support that, and send it to all ids"
        )
