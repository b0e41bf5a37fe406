"""A look at who takes events: what is asked of Redis for it, and what the answers say."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..redis.plan import Call, Command, chunks, ms
from .events import Notice, notice_payload
from .keys import Keys
from .plan import ASIDE
from .script import ADMIT, POOL, READMIT, WITHDRAW

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
