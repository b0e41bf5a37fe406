"""How long dispatches and logins took, and how much of that was not Sentinel's."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from tests.faults.chaos.journal import Record

from .failover import Failovers


class Call(NamedTuple):
    """Something that is tried until it succeeds.

    Attributes:
        who: who called.
        began: when it was tried first.
        ended: when it succeeded; infinite if it never did.
    """

    who: str
    began: float
    ended: float


class Outage(NamedTuple):
    """What callers felt of one failover.

    Attributes:
        longest: seconds of the longest call.
        beyond: seconds that a call lasted after Sentinel named another master, at most.
    """

    longest: float = 0.0
    beyond: float = 0.0


def calls_of(records: Iterable[Record]) -> list[Call]:
    """The calls of `meant` and `confirmed` records."""
    began: dict[tuple[str, int], float] = {}
    calls = []
    for time, kind, who, number, *_ in records:
        if kind == "meant":
            began[who, number] = time
        elif kind == "confirmed":
            calls.append(Call(who, began.pop((who, number)), time))
    return calls + [Call(who, time, inf) for (who, _), time in began.items()]


def outages(calls: Iterable[Call], failovers: Failovers) -> list[Outage]:
    """What was felt of each failover. A call that lasted belongs to the one in which it ended."""
    found = [Outage() for _ in failovers.all]
    for call in calls:
        number = failovers.at(call.began if call.ended == inf else call.ended)
        switched = failovers.all[number].switched
        beyond = max(0.0, call.ended - max(call.began, switched))
        before = found[number]
        found[number] = Outage(max(before.longest, call.ended - call.began), max(before.beyond, beyond))
    return found
