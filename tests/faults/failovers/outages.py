"""Duration of dispatches and logins in a failover, and the part that Sentinel did not cause."""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

from tests.faults.chaos.journal import Record

from .failover import Failovers


class Call(NamedTuple):
    """A dispatch or a login, which is tried until it succeeds.

    Attributes:
        who: the caller.
        began: time of the first attempt.
        ended: time of the success; infinite if it never succeeded.
    """

    who: str
    began: float
    ended: float


class Outage(NamedTuple):
    """The outage of one failover, as callers see it.

    Attributes:
        longest: seconds of the longest call.
        beyond: longest time that a call lasted after Sentinel reported another master, in seconds.
    """

    longest: float = 0.0
    beyond: float = 0.0


def calls_of(records: Iterable[Record]) -> list[Call]:
    """Return the calls of `meant` and `confirmed` records."""
    began: dict[tuple[str, int], float] = {}
    calls = []
    for time, kind, who, number, *_ in records:
        if kind == "meant":
            began[who, number] = time
        elif kind == "confirmed":
            calls.append(Call(who, began.pop((who, number)), time))
    return calls + [Call(who, time, inf) for (who, _), time in began.items()]


def outages(calls: Iterable[Call], failovers: Failovers) -> list[Outage]:
    """Return the outage of each failover. A long call belongs to the failover in which it ended."""
    found = [Outage() for _ in failovers.all]
    for call in calls:
        number = failovers.at(call.began if call.ended == inf else call.ended)
        switched = failovers.all[number].switched
        beyond = max(0.0, call.ended - max(call.began, switched))
        before = found[number]
        found[number] = Outage(max(before.longest, call.ended - call.began), max(before.beyond, beyond))
    return found
