"""Mesa's own wire: its handshake, and the operations of dispatchers as commands and readers of replies."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from ...errors import BackendRefused
from ...messages.order import OrderStatus
from ...messages.receipt import OutboxHead, Position, Range, Stored
from ...messages.recipients import check_id
from ...settings import check_namespace
from ..outbox import Entry, Page, Standing
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
from ..redis_client.command import MAX_IDS, MAX_SCANNED, Call, Command, chunks
from ..redis_client.failures import is_forbidden, lacking_rights, raise_first
from ..redis_wire.handshake import WireHandshake
from ..redis_wire.rights import Rights
from .dispatch import dispatching, warn_of_corruption
from .keys import PARTITIONS, Keys
from .node_commands import (
    InvalidEntry,
    OutboxReply,
    RawEntry,
    newest_order,
    page_of,
    position_args,
    read_newest_order,
    read_standing,
    standing,
)
from .rights import of_dispatcher, of_server
from .scripts import BROADCASTS, HEADS, LEAVE, ONLINE, PROGRESS, PURGE, SCRIPTS, TALLY

MAX_PEEK = 1000
"""Maximum number of messages that `peek` returns."""

LEFT = 15.0
"""Seconds for which a master that was left stores nothing; Sentinels make it a replica by then."""


class NativeHandshake(WireHandshake):
    """First commands on each connection; they also check the layout of the cluster."""

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

    def query(self, query: Query[Any]) -> Operation[Any]:  # noqa: PLR0911 - one for each kind
        """Answer a query."""
        keys = self.keys
        match query:
            case Online(ids):
                return Operation(_commands(online(keys, ids)), partial(online_counts, ids))
            case OnlineCount():
                return Operation([count(keys)], lambda replies: int(replies[0]))
            case OnlineIds(cursor):
                scan = ("ZSCAN", keys.graces, check_cursor(cursor), "COUNT", MAX_SCANNED)
                return Operation([scan], lambda replies: online_page(replies[0]))
            case ConnectionCount():
                tally = Call(TALLY, (keys.leases, keys.tallies), ())
                return Operation([tally.command], lambda replies: int(replies[0]))
            case CarriedOut(position):
                progress = Call(PROGRESS, (keys.leases, keys.carried_out, keys.orders_position), ())
                return Operation([progress.command], lambda replies: _progress(position, replies[0]))
            case Heads(ids):
                return Operation(_commands(heads(keys, ids)), partial(outbox_heads, ids))
            case Peek(id, limit):
                return Operation([peek(keys, id, limit).command], lambda replies: stored(replies[0]))
        raise NotImplementedError(query)

    def orders(self, position: Position | None) -> Operation[Page]:
        """Read the orders after a position."""
        keys = self.keys
        args = position_args(position) if position else ("", 0)
        call = Call(BROADCASTS, (keys.orders_position, keys.orders), args)
        return Operation([call.command], lambda replies: broadcast_answer(replies[0]).page)

    def standing(self, id: str) -> Operation[Standing]:
        """Return what a login of an id has to know."""
        return Operation(standing(self.keys, id), read_standing)

    def purge(self, id: str) -> Operation[int]:
        """Drop the messages of an outbox. Not retried: a second run would return 0."""
        calls = purge(self.keys, [check_id(id)])
        return Operation(_commands(calls), lambda replies: int(replies[0][0]), is_repeatable=False)

    def broadcasts(self, position: Position | None) -> Operation[Page]:
        """Read the messages to `*` after a position."""

        def page(replies: Sequence[Any]) -> Page:
            answer = broadcast_answer(replies[0])
            warn_of_corruption(self.keys, ["*"] if answer.is_corrupt else [])
            return answer.page._replace(standing=Standing(position=read_newest_order(replies[1])))

        return Operation([broadcasts(self.keys, position).command, newest_order(self.keys)], page)


def _progress(position: Position, reply: Sequence[bytes]) -> OrderStatus:
    """Read the reply of `progress.lua`.

    A node in the epoch of today has passed those before, as far as that epoch knows them: an order beyond has
    gone with a Redis, and only nodes that noted it have carried it out.
    """
    current, forks, nodes = reply[0].decode(errors="replace"), reply[1], chunks(reply[2:], 2)
    ends = dict(fork.partition(":")[::2] for fork in forks.decode(errors="replace").split(","))
    ended = ends.get(position.epoch, "")
    is_known = not ended.isdigit() or position.sequence <= int(ended)
    done: dict[bool, list[str]] = {True: [], False: []}
    for node, noted in nodes:
        epoch, _, sequence = noted.decode(errors="replace").partition(":")
        if epoch == position.epoch:
            is_done = sequence.isdigit() and int(sequence) >= position.sequence
        else:
            is_done = is_known and epoch == current
        done[is_done].append(node.decode(errors="replace"))
    return OrderStatus(tuple(done[True]), tuple(done[False]))


def _commands(calls: Iterable[Call]) -> list[Command]:
    return [call.command for call in calls]


def online(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Count the connections of `ids`; `online_counts` reads the replies."""
    return [Call(ONLINE, (keys.leases, *map(keys.user, some)), ()) for some in chunks(ids, MAX_IDS)]


def online_counts(ids: Sequence[str], replies: Sequence[Sequence[int]]) -> dict[str, int]:
    """Read the replies to `online`; a corrupt key counts as no connection."""
    counts = (max(count, 0) for reply in replies for count in reply)
    return dict(zip(ids, counts, strict=True))


def count(keys: Keys) -> Command:
    """Count the ids that have connections; the reply is the number.

    The ids of a node that died count until other nodes have cleaned up after it.
    """
    return ("ZCOUNT", keys.graces, "+inf", "+inf")


def online_page(reply: Sequence[Any]) -> IdPage:
    """Read a page of the ids that are online or in grace: an id that a node holds has no end of grace."""
    cursor, flat = reply
    ids = (id.decode(errors="replace") for id, end in chunks(flat, 2) if end == b"inf")
    return IdPage(tuple(ids), None if cursor == b"0" else cursor.decode())


def broadcasts(keys: Keys, position: Position | None) -> Call:
    """Read messages to `*` after a position; without one, read only the present position."""
    args = position_args(position) if position else ("", 0)
    return Call(BROADCASTS, (keys.broadcast_position, keys.broadcasts), args)


def broadcast_answer(reply: Sequence[Any]) -> OutboxReply:
    """Read the reply to `broadcasts`."""
    return OutboxReply(page_of(reply[:8], reply[8:], _broadcast), False, reply[5] == 1)


def heads(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Read where outboxes stand; `outbox_heads` reads the replies."""
    return [Call(HEADS, tuple(_own_keys(keys, some)), (0,)) for some in chunks(ids, MAX_IDS)]


def outbox_heads(ids: Iterable[str], replies: Iterable[Sequence[Any]]) -> dict[str, OutboxHead | None]:
    """Read the replies to `heads`; None for an outbox that does not exist or is corrupt."""
    found = (_readable_head(each) if each else None for reply in replies for each in reply)
    return dict(zip(ids, found, strict=True))


def peek(keys: Keys, id: str, limit: int) -> Call:
    """Read the oldest messages of an outbox, `MAX_PEEK` at most; `stored` reads the reply."""
    return Call(HEADS, tuple(_own_keys(keys, [id])), (max(1, min(limit, MAX_PEEK)),))


def stored(reply: Sequence[Any]) -> list[Stored]:
    """Read the reply to `peek`. A corrupt entry has no message id and no time."""
    if reply == [[]]:
        return []
    [[_, top, _, _, _, length, *entries]] = reply
    return [_stored(sequence, raw) for sequence, raw in enumerate(entries, top - length + 1)]


def purge(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Drop the messages of ids; each reply has their number for each id."""
    return [Call(PURGE, tuple(_own_keys(keys, some)), tuple(some)) for some in chunks(ids, MAX_IDS)]


def _own_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    return [key for id in ids for key in (keys.position(id), keys.outbox(id))]


def _broadcast(sequence: int, raw: bytes) -> Entry:
    read = RawEntry.of(raw)
    excluding, body = read.for_everybody
    return Entry(sequence, read.message_id, body, excluding)


def _stored(sequence: int, raw: bytes) -> Stored:
    try:
        read = RawEntry.of(raw)
    except InvalidEntry:
        return Stored(sequence, "", 0.0, 0.0, raw)
    return Stored(sequence, read.message_id, read.at, read.expires, read.body)


def _readable_head(members: Sequence[Any]) -> OutboxHead | None:
    try:
        return _head(*members)
    except ValueError:  # the script checks only the characters of forks and ranges
        return None


def _head(epoch: bytes, top: int, acknowledged: int, forks: bytes, ranges: bytes, length: int) -> OutboxHead:
    older = (fork.split(":") for fork in forks.decode().split(",") if fork)
    dropped = [_range(text) for text in ranges.decode().split(",") if text]
    first = max(acknowledged, dropped[-1][1] if dropped else 0) + 1
    if first <= top - length:  # left the list, and no script has recorded it since
        dropped.append((first, top - length))
    positions = tuple(Position(epoch, int(ended)) for epoch, ended in older)
    return OutboxHead(epoch.decode(), top, acknowledged, length, positions, tuple(dropped))


def _range(text: str) -> Range:
    first, last = text.split("-")
    return int(first), int(last)
