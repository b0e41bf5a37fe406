"""Which portals live, as far as Redis shows it. Without any I/O.

Portals of ours have leases, and their connections carry their names. Those of 1.x have neither: one is
bound to the connection that appeared when it joined. When that connection is gone, the portal is
*suspected*, and others get the events as long as there are any. It counts as dead when the number of
listeners has agreed for some time; so does one that has no connection, where those that have one are
all that listen. Where it cannot be told which one is dead, none is.

Redis does not say what a connection listens to. So one that appears may be of another namespace, or of
another application, while the portal that announced itself has yet to subscribe. A portal is bound only
while no more listeners are missing than before it joined, those apart whose connections are gone.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..redis_client.command import Call, Command, chunks, ms
from .commands import ADMIT, ASIDE, POOL, READMIT, WITHDRAW
from .keys import Keys
from .payloads import Notice, notice_payload

NAME = "mesa-portal-"
"""What the connection by which a portal of ours listens is called, and then its id."""

SUBSCRIBERS: Command = ("CLIENT", "LIST", "TYPE", "PUBSUB")


class Census(NamedTuple):
    """What was found.

    Attributes:
        era: another one than before means that Redis has lost its data.
        listeners: connections that hear the events.
        members: portals that stand in the pool.
        leases: portal of ours -> seconds that are left of its lease.
        gone: portals of 1.x that were taken for dead.
    """

    era: str
    listeners: int
    members: frozenset[str]
    leases: Mapping[str, float]
    gone: frozenset[str]

    @classmethod
    def of(cls, reply: Sequence[Any]) -> "Census":
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
    """The connections by which processes listen to anything.

    Attributes:
        plain: numbers of those that listen to one channel and have no name; portals of 1.x do.
        named: portals of ours.
        numbers: those of all of them.
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


def look(keys: Keys, era: str, expiry: float, lease: float) -> Call:
    """Ask who takes events; the reply is read by `Census`."""
    aside = (keys.cleared(keys.pool), ms(ASIDE))
    return Call(POOL, (*_own(keys), keys.era, keys.signs), (era, ms(expiry), keys.portal, *aside, ms(lease)))


def admit(keys: Keys, portal: str, lease: float, expiry: float, *, is_new: bool) -> Call:
    """Show that a portal of ours lives."""
    announcement = notice_payload(Notice(portal, True))
    return Call(
        ADMIT,
        (*_own(keys), keys.leases, keys.signs),
        (portal, ms(lease), ms(expiry), int(is_new), keys.pool, announcement),
    )


def withdraw(keys: Keys, portal: str, why: str, expiry: float) -> Call:
    """Take a portal out of the pool; `why` is that of `withdraw.lua`."""
    announcement = notice_payload(Notice(portal, False))
    return Call(WITHDRAW, (*_own(keys), keys.signs), (portal, why, keys.pool, announcement, ms(expiry)))


def readmit(keys: Keys, portals: Sequence[str]) -> Call:
    """Put portals of 1.x back that were taken for dead."""
    told = (part for each in portals for part in (each, notice_payload(Notice(each, True))))
    return Call(READMIT, (keys.pool, keys.gone_portals), (keys.pool, *told))


def _own(keys: Keys) -> tuple[str, str, str]:
    return keys.pool, keys.portal_leases, keys.gone_portals


def _is_text(given: bytes) -> bool:
    try:
        given.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(given: bytes) -> str:
    return given.decode(errors="replace")


NEWS = 5.0
"""Seconds for which a portal or a connection that appeared counts as new."""


class Verdict(NamedTuple):
    """Whom to take out of the pool.

    Attributes:
        ours: portals whose lease has ended.
        theirs: portals of 1.x that are dead.
        unclear: how many more of 1.x are dead, nobody knows which.
    """

    ours: tuple[str, ...] = ()
    theirs: tuple[str, ...] = ()
    unclear: int = 0


class _Joined(NamedTuple):
    """When a portal of 1.x was seen first, and how many listeners were missing before, nobody knows whose."""

    at: float
    unexplained: int


class Vitality:
    """Remembers what looks have shown.

    Args:
        patience: seconds in which a portal of 1.x may come back on another connection.

    Attributes:
        suspects: portals whose connection is gone; all of 1.x where only ours listen.
        unheard: portals of 1.x that do not listen at this moment. They may be about to, so they keep
            their turn.
        others: listeners that may be portals of 1.x: all that are not known to be ours.
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
        self._unexplained = 0  # listeners that are missing, and nobody is known to be gone
        self._leased: set[str] = set()
        self._leaseless: dict[str, float] = {}
        self._doubted: dict[str, float] = {}  # since when a portal of 1.x seems to be dead
        self._unclear_since: float | None = None

    def observe(
        self, census: Census, subscribers: Subscribers | None, pool: Iterable[str], now: float
    ) -> Verdict:
        """Take in a look; `subscribers` is None where Redis does not show them."""
        ids = list(pool)
        self._leased = (self._leased | set(census.leases)) & set(ids)
        theirs = [id for id in ids if id not in self._leased]
        self._remember(theirs, subscribers, now)
        self.others = self._strangers(census, subscribers)
        missing = len(theirs) - self.others
        self._unexplained = missing - sum(number not in self._plain for number in self._bound.values())
        if subscribers is not None:
            self._bind(now)
        gone = self._gone(theirs, subscribers, now, is_full=missing <= 0)
        silent = self._silent_named(subscribers) | (frozenset(ids) if not census.listeners else frozenset())
        only_ours = subscribers is not None and census.listeners <= len(self._leased & subscribers.named)
        self.suspects = frozenset(theirs if only_ours else gone) | silent
        self.unheard = self._unheard(theirs, subscribers, missing)
        certain = [id for id in theirs if id in self.unheard] or gone
        dead = theirs if missing >= len(theirs) else certain if len(certain) <= missing else []
        lasting = self._lasting(dead, now)
        return Verdict(
            tuple(self._ended(census, now)), tuple(lasting), self._unclear(missing - len(dead), now)
        )

    def _remember(self, theirs: Sequence[str], subscribers: Subscribers | None, now: float) -> None:
        new = _Joined(now, max(0, self._unexplained))
        self._portals = {id: self._portals.get(id, new) for id in theirs}
        self._bound = {id: number for id, number in self._bound.items() if id in self._portals}
        if subscribers is not None:
            self._plain = {number: self._plain.get(number, now) for number in subscribers.plain}
            self._named |= subscribers.named
        self._named &= self._leased | (subscribers.named if subscribers else set())

    def _strangers(self, census: Census, subscribers: Subscribers | None) -> int:
        """Listeners that are not seen to be portals of ours. A lease does not say that one does."""
        if subscribers is None:
            return census.listeners
        self._ours = (self._ours & subscribers.named) | set(census.leases)
        return max(0, census.listeners - len(self._ours & subscribers.named))

    def _silent_named(self, subscribers: Subscribers | None) -> frozenset[str]:
        """Portals of ours whose connection was there, and is gone."""
        return frozenset() if subscribers is None else frozenset(self._named - subscribers.named)

    def _bind(self, now: float) -> None:
        """Bind the one portal that is new to the one connection that is, if it certainly listens."""
        new = [id for id, (at, _) in self._portals.items() if id not in self._bound and now - at <= NEWS]
        taken = set(self._bound.values())
        fresh = [number for number, at in self._plain.items() if number not in taken and now - at <= NEWS]
        if len(new) == len(fresh) == 1 and self._unexplained <= self._portals[new[0]].unexplained:
            self._bound[new[0]] = fresh[0]

    def _gone(
        self, theirs: Sequence[str], subscribers: Subscribers | None, now: float, *, is_full: bool
    ) -> list[str]:
        """Portals of 1.x whose connection is gone, unless they have come back on others."""
        if subscribers is None:
            return []
        gone = [id for id in theirs if id in self._bound and self._bound[id] not in subscribers.plain]
        taken = set(self._bound.values())
        fresh = [number for number, at in self._plain.items() if number not in taken and now - at <= NEWS]
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
        """Portals of 1.x of which none can be there, because the others are all that listen."""
        if subscribers is None:
            return frozenset()
        rest = [id for id in theirs if self._bound.get(id) not in subscribers.plain]
        return frozenset(rest if len(rest) == missing else ())

    def _ended(self, census: Census, now: float) -> list[str]:
        """Portals of ours whose lease has ended; one that Redis has forgotten may still be renewed."""
        self._leaseless = {id: self._leaseless.get(id, now) for id in self._leased if id not in census.leases}
        forgotten = [id for id, at in self._leaseless.items() if now - at >= 3 * self._patience]
        return [id for id in self._leased if census.leases.get(id, 1) <= 0] + forgotten

    def _lasting(self, dead: Iterable[str], now: float) -> list[str]:
        """Those that have seemed dead for long enough."""
        self._doubted = {id: self._doubted.get(id, now) for id in dead}
        return [id for id, at in self._doubted.items() if now - at >= self._patience]

    def _unclear(self, count: int, now: float) -> int:
        if count <= 0:
            self._unclear_since = None
            return 0
        if self._unclear_since is None:
            self._unclear_since = now
        return count if now - self._unclear_since >= self._patience else 0
