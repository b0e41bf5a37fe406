"""What is asked of Redis and what its replies mean, without any I/O.

Every operation is a pure function to `Call`s, and one from their replies to a result; the asyncio
and the blocking runner only carry them. A runner sends the calls of one operation in their order,
over one connection.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..base import IdPage
from ..redis_client.command import MAX_IDS, MAX_SCANNED, Call, Command, chunks, ms
from .keys import BACKLOG_LIFE, PARTITIONS, POSITION_LIFE, Keys, _users, outbox_keys
from .scripts import ATTACH, DEPART, DETACH, HEARTBEAT, ONLINE, REAP, TALLY

MAX_ENTRIES = 256
"""Messages on one page of an outbox."""

MAX_BYTES = 256 * 1024
"""Bytes on one page of an outbox, unless its first message alone has more."""


def online(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Ask how many connections `ids` have."""
    return [Call(ONLINE, (keys.leases, *map(keys.user, some)), ()) for some in chunks(ids, MAX_IDS)]


def online_counts(ids: Sequence[str], replies: Sequence[Sequence[int]]) -> dict[str, int]:
    """Read the replies to `online`; a corrupt key counts as nobody."""
    return {id: max(count, 0) for id, count in _by_id(ids, replies).items()}


def count(keys: Keys) -> Command:
    """Ask how many ids have connections; the reply is the number.

    Those of a node that died count until others have cleaned up after it.
    """
    return ("ZCOUNT", keys.graces, "+inf", "+inf")


def scan_online(keys: Keys, cursor: str) -> Command:
    """Ask for some of the ids, and those whose grace runs; `online_page` reads the reply."""
    return ("ZSCAN", keys.graces, cursor, "COUNT", MAX_SCANNED)


def online_page(reply: Sequence[Any]) -> IdPage:
    """Read the reply to `scan_online`: who is held by a node has no end of grace."""
    cursor, flat = reply
    ids = (id.decode(errors="replace") for id, end in chunks(flat, 2) if end == b"inf")
    return IdPage(tuple(ids), None if cursor == b"0" else cursor.decode())


def tally(keys: Keys) -> Call:
    """Count the connections of all living nodes; the reply is the number."""
    return Call(TALLY, (keys.leases, keys.tallies), ())


class NodeCommands(NamedTuple):
    """The calls by which one node keeps its place.

    Args:
        keys: names of the namespace.
        node: this node's id.
        lease: seconds that a heartbeat lasts.
        expiry: seconds until what this node wrote disappears without it.
        grace: seconds that an id may be away before it counts as offline.
        window: seconds for which acknowledged messages are kept for clients that come back with a
            position.
        watches_portals: whether heartbeats ask which portals live.
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
        """Renew the lease, or take one, and tell how many connections there are.

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
        """Record the layout for programs that start later."""
        return (
            ("HSETNX", self.keys.meta, "partitions", PARTITIONS),
            ("PEXPIRE", self.keys.meta, ms(self.expiry)),
        )

    def attach(self, held: Mapping[str, tuple[int, int]], told: Container[str] = ()) -> Call:
        """Record ids with their sockets and version, and read nothing.

        `came_online` reads the reply.

        Args:
            held: id -> sockets, version.
            told: ids of which this node has told that they are online.
        """
        wishes = (
            (id, sockets, version, int(id in told), "", "", 0, 0) for id, (sockets, version) in held.items()
        )
        return self.visit(list(held), [part for wish in wishes for part in wish])

    def visit(self, ids: Iterable[str], wishes: Iterable[str | int]) -> Call:
        """Run `attach.lua` for `ids`; it says what the wishes are."""
        keys = (self.keys.leases, self.keys.held(self.node), self.keys.graces, self.keys.signs)
        args = (self.node, ms(self.expiry), MAX_ENTRIES, MAX_BYTES, ms(POSITION_LIFE))
        return Call(ATTACH, (*keys, *outbox_keys(self.keys, ids)), (*args, *wishes))

    def detach(self, ids: Sequence[str], version: int) -> Call:
        """Forget ids that were not recorded after `version`."""
        keys = (self.keys.held(self.node), self.keys.graces, *_users(self.keys, ids))
        return Call(DETACH, keys, (self.node, version, ms(self.expiry), ms(self.grace), *ids))

    def leave(self) -> Call:
        """Give up the lease and forget some ids; the reply is 1 when there is more to do."""
        return reap(self.keys, self.node, ms(self.expiry), ms(self.grace))

    def reap(self) -> Call:
        """Forget some ids of a node whose lease ran out; the reply is 1 when there may be more."""
        return reap(self.keys, "", ms(self.expiry), 0)

    def depart(self) -> Call:
        """Take some ids whose grace is over, to tell that they are offline; the reply is them."""
        return Call(DEPART, (self.keys.graces, self.keys.signs), (self.keys.users, MAX_IDS))

    def scan(self, cursor: int) -> Command:
        """Read some of the ids that Redis has for this node."""
        return ("SSCAN", self.keys.held(self.node), cursor, "COUNT", MAX_IDS)


def reap(keys: Keys, node: str, expiry: int, grace: int) -> Call:
    """Forget some ids and connections of a node; the reply is 1 when there may be more.

    Args:
        keys: names of the namespace.
        node: which gives up its own lease; '' for one whose lease ran out.
        expiry: milliseconds until what was written disappears.
        grace: milliseconds that its ids may be away.
    """
    names = (keys.leases, keys.counters, keys.graces, keys.observers, keys.observed, keys.tallies, keys.signs)
    prefixes = (keys.open_connections, keys.queues, ms(BACKLOG_LIFE))
    return Call(REAP, names, (keys.holdings, keys.users, MAX_IDS, node, expiry, grace, *prefixes))


class Pulse(NamedTuple):
    """What a heartbeat found.

    Attributes:
        has_lease: False when the lease is lost and the node has to join.
        dead: how many nodes' leases ran out.
        gone: how many ids' grace is over, for `NodeCommands.depart`.
        portals: those that live, if they were asked for.
        run: what `Runs.ended` reads.
        was_passed_over: 1 where the lease had run out while Redis was away, so that messages may be missing.
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
