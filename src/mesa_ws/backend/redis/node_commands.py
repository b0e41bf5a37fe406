"""Commands of one node and of presence, and the meaning of their replies. No I/O.

Each operation is a pure function that returns `Call`s, and one that reads their replies; the asyncio and
the blocking runner only carry them. A runner sends the calls of one operation in order, over one
connection.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..queries import IdPage
from ..redis_client.command import MAX_IDS, MAX_SCANNED, Call, Command, chunks, ms
from .keys import BACKLOG_LIFE, PARTITIONS, POSITION_LIFE, Keys, outbox_keys
from .scripts import ATTACH, DEPART, DETACH, HEARTBEAT, ONLINE, REAP, TALLY

MAX_ENTRIES = 256
"""Messages on one page of an outbox."""

MAX_BYTES = 256 * 1024
"""Bytes on one page of an outbox, unless its first message alone has more."""


def online(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Count the connections of `ids`; `online_counts` reads the replies."""
    return [Call(ONLINE, (keys.leases, *map(keys.user, some)), ()) for some in chunks(ids, MAX_IDS)]


def online_counts(ids: Sequence[str], replies: Sequence[Sequence[int]]) -> dict[str, int]:
    """Read the replies to `online`; a corrupt key counts as no connection."""
    return {id: max(count, 0) for id, count in _by_id(ids, replies).items()}


def count(keys: Keys) -> Command:
    """Count the ids that have connections; the reply is the number.

    The ids of a node that died count until other nodes have cleaned up after it.
    """
    return ("ZCOUNT", keys.graces, "+inf", "+inf")


def scan_online(keys: Keys, cursor: str) -> Command:
    """Scan the ids that are online or in grace; `online_page` reads the reply."""
    return ("ZSCAN", keys.graces, cursor, "COUNT", MAX_SCANNED)


def online_page(reply: Sequence[Any]) -> IdPage:
    """Read the reply to `scan_online`: an id that a node holds has no end of grace."""
    cursor, flat = reply
    ids = (id.decode(errors="replace") for id, end in chunks(flat, 2) if end == b"inf")
    return IdPage(tuple(ids), None if cursor == b"0" else cursor.decode())


def tally(keys: Keys) -> Call:
    """Count the connections of all living nodes; the reply is the number."""
    return Call(TALLY, (keys.leases, keys.tallies), ())


class NodeCommands(NamedTuple):
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

    def heartbeat(
        self, *, join: bool, connections: int = 0, runs: tuple[str, str] = ("", "")
    ) -> tuple[Call, Command]:
        """Renew the lease, or take one, and report the number of connections.

        `Pulse.of` reads the first reply; `runs` is `Runs.args`.
        """
        own = (self.keys.held(self.node), self.keys.graces, self.keys.connections(self.node))
        shared = (self.keys.tallies, self.keys.portals, self.keys.observers, self.keys.signs)
        keys = (self.keys.leases, self.keys.counters, *own, *shared)
        args = (self.node, ms(self.lease), int(join), self.keys.channels, ms(self.expiry))
        more = (connections, int(self.watches_portals), ms(BACKLOG_LIFE), *runs)
        call = Call(HEARTBEAT, keys, (*args, *more))
        return call, ("PEXPIRE", self.keys.meta, ms(self.expiry))

    def claim(self) -> tuple[Command, Command]:
        """Record the layout for processes that start later."""
        return (
            ("HSETNX", self.keys.meta, "partitions", PARTITIONS),
            ("PEXPIRE", self.keys.meta, ms(self.expiry)),
        )

    def attach(self, held: Mapping[str, tuple[int, int]], announced: Container[str] = ()) -> Call:
        """Record ids with their sockets and version, and read nothing.

        `came_online` reads the reply.

        Args:
            held: id -> sockets, version.
            announced: ids that this node has announced as online.
        """
        wishes = (
            (id, sockets, version, int(id in announced), "", "", 0, 0)
            for id, (sockets, version) in held.items()
        )
        return self.visit(list(held), [part for wish in wishes for part in wish])

    def visit(self, ids: Iterable[str], wishes: Iterable[str | int]) -> Call:
        """Run `attach.lua` for `ids`; its head documents the arguments of each id."""
        keys = (self.keys.leases, self.keys.held(self.node), self.keys.graces, self.keys.signs)
        args = (self.node, ms(self.expiry), MAX_ENTRIES, MAX_BYTES, ms(POSITION_LIFE))
        return Call(ATTACH, (*keys, *outbox_keys(self.keys, ids)), (*args, *wishes))

    def detach(self, ids: Sequence[str], version: int) -> Call:
        """Forget ids that were not recorded after `version`."""
        keys = (self.keys.held(self.node), self.keys.graces, *map(self.keys.user, ids))
        return Call(DETACH, keys, (self.node, version, ms(self.expiry), ms(self.grace), *ids))

    def leave(self) -> Call:
        """Give up the lease and release some ids; the reply is 1 when there may be more."""
        return reap(self.keys, self.node, ms(self.expiry), ms(self.grace))

    def reap(self) -> Call:
        """Release some ids of a node whose lease ran out; the reply is 1 when there may be more."""
        return reap(self.keys, "", ms(self.expiry), 0)

    def depart(self) -> Call:
        """Take some ids whose grace is over, to announce them as offline; the reply lists them."""
        return Call(DEPART, (self.keys.graces, self.keys.signs), (self.keys.users, MAX_IDS))

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
    names = (keys.leases, keys.counters, keys.graces, keys.observers, keys.observed, keys.tallies, keys.signs)
    prefixes = (keys.open_connections, keys.queues, ms(BACKLOG_LIFE))
    return Call(REAP, names, (keys.holdings, keys.users, MAX_IDS, node, expiry, grace, *prefixes))


class Pulse(NamedTuple):
    """Reply to a heartbeat.

    Attributes:
        has_lease: False when the lease is lost and the node has to join.
        dead: number of nodes whose leases ran out.
        gone: number of ids whose grace is over, for `NodeCommands.depart`.
        portals: the living portals, if the node watches them.
        run: input of `Runs.ended`.
        was_passed_over: 1 if the lease ran out while Redis was away, so that messages may be missing.
    """

    has_lease: bool
    dead: int = 0
    gone: int = 0
    portals: Sequence[bytes] = ()
    run: Sequence[bytes] = (b"",)
    was_passed_over: int = 0

    @classmethod
    def of(cls, reply: Sequence[Any]) -> "Pulse":
        """Read the first reply to `NodeCommands.heartbeat`."""
        return cls(reply[0] == 1, *reply[1:])


def came_online(ids: Iterable[str], reply: Any) -> list[str] | None:
    """Read the reply to `NodeCommands.attach`: the ids that came online, or None without a lease."""
    if reply == 0:
        return None
    return [id for id, (first,) in zip(ids, reply, strict=True) if first]


def _by_id(ids: Iterable[str], replies: Iterable[Sequence[int]]) -> dict[str, int]:
    counts = (count for reply in replies for count in reply)
    return dict(zip(ids, counts, strict=True))
