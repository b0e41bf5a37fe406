"""Which portals live, as far as Redis shows it. Without any I/O.

Our portals have leases, and their connections carry their names. Portals of 1.x have neither: such a portal
is bound to the connection that appeared when it joined. When that connection is gone, the portal is
*suspected*, and other portals get the events as long as there are any. It counts as dead when the number of
listeners has agreed for some time; so does a portal without a connection, if the connections of the others
are all that listen. Where it is not clear which portal is dead, none is.

Redis does not say what a connection listens to. So a connection that appears may be of another namespace or
another application, while the portal that announced itself has yet to subscribe. A portal is bound only
while no more listeners are missing than before it joined, apart from those whose connections are gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..redis_client.command import Call, Command, chunks, ms
from .commands import POOL, PORTAL_HEARTBEAT, REMOVE_PORTAL, RESTORE_PORTALS
from .keys import Mesa1Keys
from .payloads import PortalNotice, notice_payload

NAME = "mesa-portal-"
"""Name of the connection by which one of our portals listens, followed by its id."""

SUBSCRIBERS: Command = ("CLIENT", "LIST", "TYPE", "PUBSUB")


class PoolSnapshot(NamedTuple):
    """The pool of portals in Redis at one moment.

    Attributes:
        era: if it differs from the previous one, Redis has lost its data.
        listeners: number of connections that hear the events.
        members: portals in the pool.
        leases: our portal -> seconds that are left of its lease.
        gone: portals of 1.x that were removed as dead.
    """

    era: str
    listeners: int
    members: frozenset[str]
    leases: Mapping[str, float]
    gone: frozenset[str]

    @classmethod
    def of(cls, reply: Sequence[Any]) -> "PoolSnapshot":
        """Read the reply to `look`."""
        era, listeners, members, leases, gone = reply
        return cls(
            era.decode(),
            listeners,
            frozenset(_text(each) for each in members if _is_text(each)),
            {_text(id): int(left) / 1000 for id, left in chunks(leases, 2)},
            frozenset(_text(id) for id, kind in chunks(gone, 2) if kind == b"theirs"),
        )


class Subscribers(NamedTuple):
    """The connections to Redis that listen to any channel.

    Attributes:
        plain: numbers of the connections that listen to one channel and have no name, as portals of 1.x.
        named: ids of our portals.
        numbers: numbers of all connections.
    """

    plain: frozenset[int]
    named: frozenset[str]
    numbers: frozenset[int] = frozenset()

    @classmethod
    def of(cls, reply: bytes) -> "Subscribers":
        """Read the reply to `SUBSCRIBERS`."""
        plain, named, numbers = set[int](), set[str](), set[int]()
        for line in reply.decode(errors="replace").splitlines():
            facts = dict(part.partition("=")[::2] for part in line.split(" "))
            name, number = facts.get("name", ""), int(facts.get("id", "0"))
            numbers.add(number)
            if name.startswith(NAME):
                named.add(name.removeprefix(NAME))
            elif not name and (facts.get("sub"), facts.get("psub")) == ("1", "0"):
                plain.add(number)
        return cls(frozenset(plain), frozenset(named), frozenset(numbers))


def look(keys: Mesa1Keys, era: str, expiry: float, lease: float) -> Call:
    """Read the pool of portals; `PoolSnapshot` reads the reply."""
    args = (era, ms(expiry), keys.portal, keys.cleared(keys.pool), ms(lease))
    return Call(POOL, (*_own(keys), keys.era, keys.signs), args)


def portal_heartbeat(keys: Mesa1Keys, portal: str, lease: float, expiry: float, *, is_new: bool) -> Call:
    """Renew the lease of one of our portals."""
    announcement = notice_payload(PortalNotice(portal, True))
    args = (portal, ms(lease), ms(expiry), int(is_new), announcement)
    return Call(PORTAL_HEARTBEAT, (*_own(keys), keys.leases, keys.signs), args)


def remove_portal(keys: Mesa1Keys, portal: str, why: str, expiry: float) -> Call:
    """Take a portal out of the pool; see `remove_portal.lua` for `why`."""
    announcement = notice_payload(PortalNotice(portal, False))
    return Call(REMOVE_PORTAL, (*_own(keys), keys.signs), (portal, why, keys.pool, announcement, ms(expiry)))


def restore_portals(keys: Mesa1Keys, portals: Sequence[str]) -> Call:
    """Put portals of 1.x back that were removed as dead."""
    told = (part for each in portals for part in (each, notice_payload(PortalNotice(each, True))))
    return Call(RESTORE_PORTALS, (keys.pool, keys.gone_portals), (keys.pool, *told))


def _own(keys: Mesa1Keys) -> tuple[str, str, str]:
    return keys.pool, keys.portal_leases, keys.gone_portals


def _is_text(given: bytes) -> bool:
    try:
        given.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(given: bytes) -> str:
    return given.decode(errors="replace")


NEW_FOR = 5.0
"""Seconds for which a portal or a connection that appeared counts as new."""


class Verdict(NamedTuple):
    """Portals to take out of the pool.

    Attributes:
        ours: our portals whose lease has ended.
        theirs: portals of 1.x that are dead.
        unclear: number of further dead portals of 1.x; it is not known which ones they are.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    unclear: int = 0


class _Joined(NamedTuple):
    """When a portal of 1.x was seen first, and how many listeners were missing without a cause before."""

    at: float
    unexplained: int


class PortalLiveness:
    """Tells from consecutive snapshots which portals live.

    Args:
        patience: seconds in which a portal of 1.x may come back on another connection.

    Attributes:
        suspects: portals whose connection is gone; all portals of 1.x if only ours listen.
        unheard: portals of 1.x that do not listen at this moment. They may be about to, so they keep
            their turn.
        others: number of listeners that may be portals of 1.x: all that are not known to be ours.
    """

    def __init__(self, patience: float) -> None:
        self.suspects: frozenset[str] = frozenset()
        self.unheard: frozenset[str] = frozenset()
        self.others = 0
        self._patience = patience
        self._portals: dict[str, _Joined] = {}  # of 1.x
        self._plain: dict[int, float] = {}  # connections, likewise
        self._bound: dict[str, int] = {}
        self._named: set[str] = set()
        self._ours: set[str] = set()  # had a lease, and may still listen without one
        self._unexplained = 0  # listeners that are missing, while no connection is known to be gone
        self._leased: set[str] = set()
        self._leaseless: dict[str, float] = {}
        self._doubted: dict[str, float] = {}  # since when a portal of 1.x seems to be dead
        self._unclear_since: float | None = None

    def observe(
        self, snapshot: PoolSnapshot, subscribers: Subscribers | None, pool: Iterable[str], now: float
    ) -> Verdict:
        """Evaluate a snapshot; `subscribers` is None where Redis does not show them."""
        ids = list(pool)
        self._leased = (self._leased | set(snapshot.leases)) & set(ids)
        theirs = [id for id in ids if id not in self._leased]
        self._remember(theirs, subscribers, now)
        self.others = self._strangers(snapshot, subscribers)
        missing = len(theirs) - self.others
        self._unexplained = missing - sum(number not in self._plain for number in self._bound.values())
        if subscribers is not None:
            self._bind(now)
        gone = self._gone(theirs, subscribers, now, is_full=missing <= 0)
        silent = self._silent_named(subscribers) | (frozenset(ids) if not snapshot.listeners else frozenset())
        only_ours = subscribers is not None and snapshot.listeners <= len(self._leased & subscribers.named)
        self.suspects = frozenset(theirs if only_ours else gone) | silent
        self.unheard = self._unheard(theirs, subscribers, missing)
        certain = [id for id in theirs if id in self.unheard] or gone
        dead = theirs if missing >= len(theirs) else certain if len(certain) <= missing else []
        lasting = self._lasting(dead, now)
        return Verdict(
            tuple(self._ended(snapshot, now)), tuple(lasting), self._unclear(missing - len(dead), now)
        )

    def _remember(self, theirs: Sequence[str], subscribers: Subscribers | None, now: float) -> None:
        new = _Joined(now, max(0, self._unexplained))
        self._portals = {id: self._portals.get(id, new) for id in theirs}
        self._bound = {id: number for id, number in self._bound.items() if id in self._portals}
        if subscribers is not None:
            self._plain = {number: self._plain.get(number, now) for number in subscribers.plain}
            self._named |= subscribers.named
        self._named &= self._leased | (subscribers.named if subscribers else set())

    def _strangers(self, snapshot: PoolSnapshot, subscribers: Subscribers | None) -> int:
        """Count the listeners that may be of others: a lease does not prove that a portal of ours listens."""

        if subscribers is None:
            return snapshot.listeners
        self._ours = (self._ours & subscribers.named) | set(snapshot.leases)
        return max(0, snapshot.listeners - len(self._ours & subscribers.named))

    def _silent_named(self, subscribers: Subscribers | None) -> frozenset[str]:
        """Return our portals whose connection was there, and is gone."""
        return frozenset() if subscribers is None else frozenset(self._named - subscribers.named)

    def _bind(self, now: float) -> None:
        """Bind the only new portal to the only new connection, if that certainly listens."""
        new = [id for id, (at, _) in self._portals.items() if id not in self._bound and now - at <= NEW_FOR]
        taken = set(self._bound.values())
        fresh = [number for number, at in self._plain.items() if number not in taken and now - at <= NEW_FOR]
        if len(new) == len(fresh) == 1 and self._unexplained <= self._portals[new[0]].unexplained:
            self._bound[new[0]] = fresh[0]

    def _gone(
        self, theirs: Sequence[str], subscribers: Subscribers | None, now: float, *, is_full: bool
    ) -> list[str]:
        """Return the portals of 1.x whose connection is gone and that did not come back on another one."""
        if subscribers is None:
            return []
        gone = [id for id in theirs if id in self._bound and self._bound[id] not in subscribers.plain]
        taken = set(self._bound.values())
        fresh = [number for number, at in self._plain.items() if number not in taken and now - at <= NEW_FOR]
        if not gone or not is_full or len(fresh) < len(gone):
            return gone
        for id in gone:
            del self._bound[id]
        if len(gone) == len(fresh) == 1:
            self._bound[gone[0]] = fresh[0]
        return []

    def _unheard(
        self, theirs: Sequence[str], subscribers: Subscribers | None, missing: int
    ) -> frozenset[str]:
        """Return the portals of 1.x that cannot listen, because the others are all that listen."""
        if subscribers is None:
            return frozenset()
        rest = [id for id in theirs if self._bound.get(id) not in subscribers.plain]
        return frozenset(rest if len(rest) == missing else ())

    def _ended(self, snapshot: PoolSnapshot, now: float) -> list[str]:
        """Return our portals whose lease has ended; a lease that Redis lost may still be renewed."""
        self._leaseless = {
            id: self._leaseless.get(id, now) for id in self._leased if id not in snapshot.leases
        }
        forgotten = [id for id, at in self._leaseless.items() if now - at >= 3 * self._patience]
        return [id for id in self._leased if snapshot.leases.get(id, 1) <= 0] + forgotten

    def _lasting(self, dead: Iterable[str], now: float) -> list[str]:
        """Return the portals that have seemed dead for long enough."""
        self._doubted = {id: self._doubted.get(id, now) for id in dead}
        return [id for id, at in self._doubted.items() if now - at >= self._patience]

    def _unclear(self, count: int, now: float) -> int:
        if count <= 0:
            self._unclear_since = None
            return 0
        if self._unclear_since is None:
            self._unclear_since = now
        return count if now - self._unclear_since >= self._patience else 0
