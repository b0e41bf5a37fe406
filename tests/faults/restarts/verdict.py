"""Judges an outage of Redis by what servers, portals and clients were told around it.

An id whose client stays connected never goes offline, and portals never hear that its connection
ended. The ids of a node that really died during the outage do both, once, within two leases. Numbers of
clients that go on talking reach portals, in their order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple, Self

LEASES = 2
"""Within so many leases after Redis is back, servers and portals know of a node that died."""

Kind = Literal["offline", "disconnected", "closed", "left", "came", "sent", "handled"]
"""`offline`: a server was told; `disconnected`: a portal was told; `closed`: its client lost the connection;
`left` and `came`: its client closed one, and has logged in; `sent` and `handled`: its client sent a number,
and a portal handled it."""


class Event(NamedTuple):
    """What happened to an id.

    Attributes:
        at: seconds, of any clock.
        kind: what.
        id: to whom.
        number: what was sent or handled.
    """

    at: float
    kind: Kind
    id: str
    number: int = 0


class Outage(NamedTuple):
    """When Redis was gone and back, by the clock of the journal, and the seconds that servers count with."""

    gone: float
    back: float
    lease: float
    grace: float


class Cast(NamedTuple):
    """The ids, by what they do.

    Attributes:
        staying: connected all the time.
        returning: left just before the outage, and came back as soon as they were let in.
        dying: on the node that died.
    """

    staying: tuple[str, ...]
    returning: tuple[str, ...]
    dying: tuple[str, ...]


class Verdict(NamedTuple):
    """What was found in one round or in several; lists name what is wrong.

    Attributes:
        rounds: how many rounds.
        told_in: leases until everything was told of the node that died, at most.
        offline: ids that servers were told to be offline, and that are connected.
        disconnected: ids whose connections live, and of which portals were told that they ended.
        closed: ids whose clients lost their connection.
        hasty: ids that servers were told to be offline sooner than half a grace after Redis was back.
        untold: what was not told of the node that died within two leases, or was told twice.
        lost: numbers that no portal handled.
        disordered: numbers that were handled after a later one of their id.
        absent: ids that are connected and not known to be online in the end.
        repeated: numbers that were handled again, as they may be.
    """

    rounds: int = 0
    told_in: float = 0.0
    offline: tuple[str, ...] = ()
    disconnected: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    hasty: tuple[str, ...] = ()
    untold: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    disordered: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not any(self[2:-1])

    @classmethod
    def over(cls, verdicts: Iterable["Verdict"]) -> Self:
        """One verdict about several rounds."""
        rounds, told_in, *lists = zip(*verdicts, strict=True)
        return cls(sum(rounds), max(told_in), *(tuple(chain.from_iterable(each)) for each in lists))


def judge(journal: Sequence[Event], cast: Cast, outage: Outage, absent: Sequence[str] = ()) -> Verdict:
    """Judge one round.

    Args:
        journal: what happened, in order.
        cast: the ids.
        outage: of Redis.
        absent: connected ids that are not known to be online in the end.
    """
    by_kind: dict[Kind, list[Event]] = defaultdict(list)
    for event in journal:
        by_kind[event.kind].append(event)

    def told(kind: Kind, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(event.id for event in by_kind[kind] if event.id in ids)

    deaths = [each for each in (*by_kind["offline"], *by_kind["disconnected"]) if each.id in cast.dying]
    sent, handled = _numbers(by_kind["sent"]), _numbers(by_kind["handled"])
    return Verdict(
        1,
        max([0.0, *((death.at - outage.back) / outage.lease for death in deaths)]),
        told("offline", cast.staying),
        told("disconnected", cast.staying),
        told("closed", (*cast.staying, *cast.returning)),
        tuple(_hasty(by_kind["offline"], [e for e in by_kind["left"] if e.id in cast.returning], outage)),
        tuple(_untold(deaths, cast.dying, outage.back + LEASES * outage.lease)),
        tuple(f"{id} #{n}" for id, numbers in sent.items() for n in numbers if n not in handled.get(id, [])),
        tuple(_disordered(handled)),
        tuple(absent),
        tuple(_repeated(handled)),
    )


def _hasty(offline: Iterable[Event], left: Iterable[Event], outage: Outage) -> Iterator[str]:
    """Ids that were told to be offline when they had hardly a chance to come back.

    Those that left long before the outage, as on a busy machine, may have had their grace by then. And an
    outage of less than half a lease is no outage for servers: a grace that ends in it has ended.
    """
    if outage.back - outage.gone < outage.lease / 2:
        return
    leaving = {event.id for event in left if event.at > outage.gone - outage.grace / 2}
    for event in offline:
        if event.id in leaving and event.at < outage.back + outage.grace / 2:
            yield event.id


def _untold(deaths: Sequence[Event], dying: Sequence[str], deadline: float) -> Iterator[str]:
    """What is missing of the deaths of ids, or too late, or there twice."""
    timely = Counter((event.kind, event.id) for event in deaths if event.at <= deadline)
    late = Counter((event.kind, event.id) for event in deaths if event.at > deadline)
    kinds: tuple[Kind, Kind] = ("offline", "disconnected")
    for kind in kinds:
        for id in dying:
            times = timely[kind, id], late[kind, id]
            if times != (1, 0):
                yield f"{id}: {kind} {times[0]} times in time, {times[1]} times too late"


def _numbers(events: Iterable[Event]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for event in events:
        numbers[event.id].append(event.number)
    return dict(numbers)


def _disordered(handled: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """Numbers that came for the first time after a later one."""
    for id, numbers in handled.items():
        highest = -1
        for at, number in enumerate(numbers):
            if number < highest and number not in numbers[:at]:
                yield f"{id} #{number}"
            highest = max(highest, number)


def _repeated(handled: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for id, numbers in handled.items():
        yield from (f"{id} #{n}" for n, times in Counter(numbers).items() for _ in range(times - 1))
