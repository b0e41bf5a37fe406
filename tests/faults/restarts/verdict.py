"""Judgement of an outage of Redis by the notifications of servers, portals and clients.

An id whose client stays connected never goes offline, and portals never receive the end of its
connection. For the ids of a node that really died during the outage, both happen once, within two
leases. Numbers that clients send reach portals in their order.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Literal, NamedTuple, Self

LEASES = 2
"""Leases after the outage within which servers and portals are notified of a dead node."""

Kind = Literal["offline", "disconnected", "closed", "left", "came", "sent", "handled"]
"""`offline`: a server was notified; `disconnected`: a portal was notified; `closed`: the client lost its
connection; `left` and `came`: the client closed its connection, or has logged in; `sent` and `handled`: the
client sent a number, or a portal handled it."""


class Event(NamedTuple):
    """An event of an id.

    Attributes:
        at: seconds of any clock.
        kind: its kind.
        id: the id.
        number: the number that was sent or handled.
    """

    at: float
    kind: Kind
    id: str
    number: int = 0


class Outage(NamedTuple):
    """Begin and end of an outage, by the clock of the journal, and the durations that servers use."""

    gone: float
    back: float
    lease: float
    grace: float


class IdGroups(NamedTuple):
    """The ids, by the behaviour of their clients.

    Attributes:
        staying: connected all the time.
        returning: left right before the outage, and logged in again as soon as possible.
        dying: on the node that died.
    """

    staying: tuple[str, ...]
    returning: tuple[str, ...]
    dying: tuple[str, ...]


class Verdict(NamedTuple):
    """The verdict about one or several rounds; its lists name the faults.

    Attributes:
        rounds: number of rounds.
        told_in: most leases until all notifications about the dead node had arrived.
        offline: connected ids that servers were notified of as offline.
        disconnected: ids with living connections whose end was reported to portals.
        closed: ids whose clients lost their connection.
        hasty: ids reported as offline sooner than half a grace after the outage.
        untold: notifications about the dead node that were missing after two leases, or came twice.
        lost: numbers that no portal handled.
        disordered: numbers that were handled after a later one of their id.
        absent: connected ids that are not online in the end.
        repeated: numbers that were handled again, which is allowed.
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
        """Whether all promises were kept."""
        return not any(self[2:-1])

    @classmethod
    def over(cls, verdicts: Iterable["Verdict"]) -> Self:
        """Return one verdict about several rounds."""
        rounds, told_in, *lists = zip(*verdicts, strict=True)
        return cls(sum(rounds), max(told_in), *(tuple(chain.from_iterable(each)) for each in lists))


def judge(journal: Sequence[Event], groups: IdGroups, outage: Outage, absent: Sequence[str] = ()) -> Verdict:
    """Judge one round.

    Args:
        journal: the events, in order.
        groups: the ids.
        outage: the outage of Redis.
        absent: connected ids that are not online in the end.
    """
    by_kind: dict[Kind, list[Event]] = defaultdict(list)
    for event in journal:
        by_kind[event.kind].append(event)

    def told(kind: Kind, ids: Sequence[str]) -> tuple[str, ...]:
        return tuple(event.id for event in by_kind[kind] if event.id in ids)

    deaths = [each for each in (*by_kind["offline"], *by_kind["disconnected"]) if each.id in groups.dying]
    sent, handled = _numbers(by_kind["sent"]), _numbers(by_kind["handled"])
    return Verdict(
        1,
        max([0.0, *((death.at - outage.back) / outage.lease for death in deaths)]),
        told("offline", groups.staying),
        told("disconnected", groups.staying),
        told("closed", (*groups.staying, *groups.returning)),
        tuple(_hasty(by_kind["offline"], [e for e in by_kind["left"] if e.id in groups.returning], outage)),
        tuple(_untold(deaths, groups.dying, outage.back + LEASES * outage.lease)),
        tuple(f"{id} #{n}" for id, numbers in sent.items() for n in numbers if n not in handled.get(id, [])),
        tuple(_disordered(handled)),
        tuple(absent),
        tuple(_repeated(handled)),
    )


def _hasty(offline: Iterable[Event], left: Iterable[Event], outage: Outage) -> Iterator[str]:
    """Yield ids that were reported as offline when they had hardly a chance to come back.

    Ids that left long before the outage, as on a busy machine, may have used up their grace by then. And
    servers ignore an outage of less than half a lease: a grace that ends during it has ended.
    """
    if outage.back - outage.gone < outage.lease / 2:
        return
    leaving = {event.id for event in left if event.at > outage.gone - outage.grace / 2}
    for event in offline:
        if event.id in leaving and event.at < outage.back + outage.grace / 2:
            yield event.id


def _untold(deaths: Sequence[Event], dying: Sequence[str], deadline: float) -> Iterator[str]:
    """Yield notifications of dead ids that are missing, late or repeated."""
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
    """Yield numbers that came for the first time after a later one."""
    for id, numbers in handled.items():
        highest = -1
        for at, number in enumerate(numbers):
            if number < highest and number not in numbers[:at]:
                yield f"{id} #{number}"
            highest = max(highest, number)


def _repeated(handled: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for id, numbers in handled.items():
        yield from (f"{id} #{n}" for n, times in Counter(numbers).items() for _ in range(times - 1))
