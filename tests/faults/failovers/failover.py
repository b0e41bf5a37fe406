"""Times of the failovers of a run, to find the failover of an event."""

from bisect import bisect_right
from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Failover(NamedTuple):
    """One change of masters, in seconds of Unix time.

    Attributes:
        kind: how the master failed.
        began: time of the failure.
        switched: time when the first Sentinel reported another master.
    """

    kind: str
    began: float
    switched: float


class Failovers:
    """All failovers of a run, in order. Events before the first one count as part of it."""

    def __init__(self, failovers: Sequence[Failover]) -> None:
        self.all = failovers
        self._begins = [each.began for each in failovers]

    def at(self, time: float) -> int:
        """Return the number of the failover at a time."""
        return max(0, bisect_right(self._begins, time) - 1)

    def end_of(self, number: int) -> float:
        """Return the time when the next failover began."""
        return self._begins[number + 1] if number + 1 < len(self._begins) else inf
