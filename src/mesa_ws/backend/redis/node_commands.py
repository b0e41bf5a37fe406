"""Commands of one node, and the meaning of their replies. No I/O.

Pure functions return `Call`s, and others read their replies. A runner sends the calls of one operation in
order, over one connection.
"""

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from ...messages.receipt import Position
from ..outbox import Acknowledgement, Entry, Page, Read, Standing, Start
from ..redis_client.command import MAX_IDS, MAX_OUTBOXES, Call, Command, chunks, ms, named
from ..redis_wire.lease import Pulse
from .keys import PARTITIONS, Keys
from .scripts import ACK, ATTACH, DEPART, DETACH, HEARTBEAT, REAP, WAITING


@dataclass
class NodeCommands:
    """Commands of one node.

    Args:
        keys: names of the namespace.
        node: id of the node.
        lease: seconds that a heartbeat lasts.
        expiry: seconds after which the keys that this node wrote disappear without it.
        grace: seconds that an id may be away before it counts as offline.
        window: seconds for which acknowledged messages are kept for clients that return with a
            position.
        watches_portals: whether heartbeats also return the living portals.
    """

    keys: Keys
    node: str
    lease: float
    expiry: float
    grace: float = 5.0
    window: float = 120.0
    watches_portals: bool = False

    def __post_init__(self) -> None:
        self._expiry_ms, self._grace_ms = ms(self.expiry), ms(self.grace)

    def heartbeat(
        self, *, join: bool, connections: int = 0, runs: tuple[str, str] = ("", "")
    ) -> tuple[Call, *tuple[Command, ...]]:
        """Renew the lease, or take one, and report the number of connections.

        `pulse` reads the first reply; `runs` is `Runs.args`.
        """
        own = (self.keys.held(self.node), self.keys.graces, self.keys.connections(self.node))
        shared = (self.keys.tallies, self.keys.portals, self.keys.observers, self.keys.signs)
        keys = (self.keys.leases, self.keys.counters, *own, *shared)
        args = named(
            node=self.node,
            lease=ms(self.lease),
            expiry=self._expiry_ms,
            join=join,
            channels=self.keys.channels,
            connections=connections,
            watches_portals=self.watches_portals,
            run=runs[0],
            reported=runs[1],
        )
        lives: list[Command] = [
            *(("PEXPIRE", key, self._expiry_ms) for key in (self.keys.meta, self.keys.carried_out)),
            *(
                ("PEXPIRE", key, self._expiry_ms, "GT")
                for key in (self.keys.orders_position, self.keys.broadcast_position)
            ),
        ]
        return Call(HEARTBEAT, keys, (args,)), *lives

    def pulse(self, reply: Sequence[Any]) -> Pulse:
        """Read the first reply to `heartbeat`; `own` are the living portals, if the node watches them."""
        return Pulse.of(reply)

    def claim(self) -> tuple[Command, Command]:
        """Record the layout for processes that start later."""
        return (
            ("HSETNX", self.keys.meta, "partitions", PARTITIONS),
            ("PEXPIRE", self.keys.meta, self._expiry_ms),
        )

    def attach(self, held: Mapping[str, tuple[int, int]], announced: Container[str] = ()) -> Command:
        """Record ids with their sockets and version, and read nothing.

        `came_online` reads the reply.
        """
        wishes = (
            (id, sockets, version, int(id in announced), "", "", 0, 0)
            for id, (sockets, version) in held.items()
        )
        return self.visit(list(held), [part for wish in wishes for part in wish])

    def visit(self, ids: Iterable[str], wishes: Iterable[str | int]) -> Command:
        """Run `attach.lua` for `ids`; its head documents the arguments of each id."""
        shared = (self.keys.leases, self.keys.holdings + self.node, self.keys.graces, self.keys.signs)
        keys = (*shared, *outbox_keys(self.keys, ids))
        return ("EVALSHA", ATTACH.sha, len(keys), *keys, self.node, self._expiry_ms, *wishes)

    def attach_and_read(
        self, id: str, held: tuple[int, int], start: Start, *, is_announced: bool = False
    ) -> Command:
        """Record an id, and read its outbox, in one step; `answers` reads the reply."""
        epoch, sequence = position_args(start.position)
        wish = (id, *held, int(is_announced), start.mode, epoch, sequence, int(start.is_wire2))
        return self.visit([id], wish)

    def read(self, reads: Sequence[Read]) -> list[Command]:
        """Read the next pages of outboxes; `answers` reads each reply.

        A page may be empty although messages follow, when others of the same call used up its size.
        """
        calls = []
        for some in chunks(reads, MAX_IDS):
            wishes = ((id, "", 0, 0, "read", *position_args(at), int(is_wire2)) for id, at, is_wire2 in some)
            calls.append(self.visit([each.id for each in some], chain.from_iterable(wishes)))
        return calls

    def acknowledge(self, some: Sequence[tuple[Acknowledgement, int]]) -> list[Call]:
        """Record acknowledgements, each with the version of the id's entry; the replies are ignored.

        The version is that of the entry from which the floor was computed: a newer entry counts a connection
        that this floor does not cover.
        """
        calls, window = [], round(self.window * 1000)
        for few in chunks(some, MAX_OUTBOXES):
            keys = (self.keys.leases, *outbox_keys(self.keys, [each.id for each, _ in few]))
            parts = ((*position_args(each.position), each.floor, version) for each, version in few)
            calls.append(Call(ACK, keys, (self.node, window, *chain.from_iterable(parts))))
        return calls

    def waiting(self, ids: Sequence[str]) -> Call:
        """Find the ids that have messages; the reply lists their numbers, starting at 1."""
        return Call(WAITING, tuple(map(self.keys.outbox, ids)), ())

    def detach(self, ids: Sequence[str], version: int) -> Command:
        """Forget ids that were not recorded after `version`."""
        keys = [self.keys.holdings + self.node, self.keys.graces, *(self.keys.users + id for id in ids)]
        args: tuple[str | int, ...] = (self.node, version, self._expiry_ms, self._grace_ms, *ids)
        return ("EVALSHA", DETACH.sha, len(keys), *keys, *args)

    def leave(self) -> Call:
        """Give up the lease and release some ids; the reply is 1 when there may be more."""
        return reap(self.keys, self.node, self._expiry_ms, self._grace_ms)

    def reap(self) -> Call:
        """Release some ids of a node whose lease ran out; the reply is 1 when there may be more."""
        return reap(self.keys, "", self._expiry_ms, 0)

    def depart(self) -> Call:
        """Take some ids whose grace is over, to announce them as offline; the reply lists them."""
        return Call(DEPART, (self.keys.graces, self.keys.signs), (self.keys.users,))

    def scan(self, cursor: int) -> Command:
        """Scan the ids that Redis records for this node."""
        return ("SSCAN", self.keys.held(self.node), cursor, "COUNT", MAX_IDS)


def reap(keys: Keys, node: str, expiry: int, grace: int) -> Call:
    """Release some ids and connections of a node; the reply is 1 when there may be more.

    Args:
        keys: names of the namespace.
        node: a node that gives up its own lease; '' for one whose lease ran out.
        expiry: milliseconds after which the written keys disappear.
        grace: milliseconds that its ids may be away.
    """
    names = (
        *(keys.leases, keys.counters, keys.graces, keys.observers, keys.observed),
        *(keys.tallies, keys.signs, keys.carried_out),
    )
    args = named(
        node=node,
        expiry=expiry,
        grace=grace,
        holdings=keys.holdings,
        users=keys.users,
        connections=keys.open_connections,
        queues=keys.queues,
    )
    return Call(REAP, names, (args,))


def came_online(ids: Iterable[str], reply: Any) -> list[str] | None:
    """Read the reply to `NodeCommands.attach`: the ids that came online, or None without a lease."""
    if reply == 0:
        return None
    return [id for id, (first,) in zip(ids, reply, strict=True) if first]


def newest_order(keys: Keys) -> Command:
    """Read the position of the newest order to all nodes; `read_newest_order` reads the reply."""
    return ("HMGET", keys.orders_position, "e", "s")


def read_newest_order(reply: Sequence[bytes | None]) -> Position | None:
    """Read the reply to `newest_order`; None if there is no order."""
    epoch, sequence = reply
    if epoch is None or sequence is None or not sequence.isdigit() or not int(sequence):
        return None
    return Position(epoch.decode(errors="replace"), int(sequence))


def standing(keys: Keys, id: str) -> list[Command]:
    """Read what a login of an id has to know of orders; `read_standing` reads the replies."""
    return [newest_order(keys), ("GET", keys.revocations + id)]


def read_standing(replies: Sequence[Any]) -> Standing:
    """Read the replies to `standing`; a revocation that cannot be read revokes everything."""
    known, revoked = replies
    position = read_newest_order(known)
    if revoked is None:
        return Standing(None, position)
    try:
        return Standing(float(revoked), position)
    except ValueError:
        return Standing(math.inf, position)


def outbox_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    """Return the keys of ids for scripts that store or read: position, outbox and user of each."""
    positions, outboxes, users = keys.positions, keys.outboxes, keys.users
    return [key for id in ids for key in (positions + id, outboxes + id, users + id)]


def position_args(position: Position | None) -> tuple[str, int]:
    """Return a position that a script can read; one that no outbox gave out stays unknown."""
    if position is None or not (position.epoch.isascii() and position.epoch.isalnum()):
        return "-", 0
    return position


class OutboxReply(NamedTuple):
    """Reply to a visit, or to a read of messages to `*`, for one outbox.

    Attributes:
        page: its messages.
        came_online: whether the id came online by this call.
        is_corrupt: whether the outbox was corrupt and was set aside; see `Keys.set_aside`.
    """

    page: Page
    came_online: bool
    is_corrupt: bool


def answers(reply: Any) -> list[OutboxReply]:
    """Read the reply to `NodeCommands.attach_and_read` or `read`; nothing is in it when the lease is lost."""
    if reply == 0:
        return []
    return [OutboxReply(page_of(each[1:9], each[9:], _entry), each[0] == 1, each[6] == 1) for each in reply]


class RawEntry(NamedTuple):
    """One entry in the list of an outbox.

    Attributes:
        at: time when it was stored, in seconds of Unix time.
        expires: time when it expires, in seconds of Unix time.
        message_id: id of its dispatch.
        body: the encoded frame; for a message to `*`, the excluded ids precede it.
    """

    at: float
    expires: float
    message_id: str
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> "RawEntry":
        """Read an entry; raise `InvalidEntry` if the bytes are not an entry."""
        if len(raw) < _HEAD.size:
            raise InvalidEntry(f"expected at least {_HEAD.size} bytes, got {len(raw)}")
        at, expires, _, size = _HEAD.unpack_from(raw)
        end = _HEAD.size + size
        if len(raw) < end:
            raise InvalidEntry(f"expected a message id of {size} bytes, got {len(raw) - _HEAD.size}")
        return cls(at / 1000, expires / 1000, raw[_HEAD.size : end].decode(errors="replace"), raw[end:])

    @property
    def for_everybody(self) -> tuple[frozenset[str], bytes]:
        """The excluded ids, and the encoded frame; raise `InvalidEntry` if the entry is not one for `*`."""
        start = 4 + int.from_bytes(self.body[:4], "big")
        if len(self.body) < start:
            raise InvalidEntry(f"expected a list of {start - 4} bytes, got {max(0, len(self.body) - 4)}")
        try:
            return _EXCLUDING.decode(self.body[4:start]), self.body[start:]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidEntry(str(error)) from None


class InvalidEntry(ValueError):
    """An outbox holds bytes that Mesa did not write."""


_HEAD = Struct(">dddB")
_EXCLUDING = msgspec.msgpack.Decoder(frozenset[str])


def page_of(head: Sequence[Any], raws: Iterable[bytes], entry: Callable[[int, bytes], Entry]) -> Page:
    """Read a page: its head, and the entries that `entry` reads."""
    status, epoch, top, start, lost, _, ended, rollback = head
    entries = tuple(entry(sequence, raw) for sequence, raw in enumerate(raws, start + 1))
    until = ended if ended != b"" else None
    return Page(status.decode(), epoch.decode(), start, top, lost, entries, until, rollback.decode())


def _entry(sequence: int, raw: bytes) -> Entry:
    read = RawEntry.of(raw)
    return Entry(sequence, read.message_id, read.body)
