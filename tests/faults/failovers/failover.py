"""When each master was lost, and which of them something belongs to."""

from bisect import bisect_right
from collections.abc import Sequence
from math import inf
from typing import NamedTuple


class Failover(NamedTuple):
    """One change of masters, in seconds of Unix time.

    Attributes:
        kind: how the master was lost.
        began: when that happened.
        switched: when the first Sentinel named another one.
    """

    kind: str
    began: float
    switched: float


class Failovers:
    """All of a run, in order. What came before the first counts as part of it."""

    def __init__(self, failovers: Sequence[Failover]) -> None:
        self.all = failovers
        self._begins = [each.began for each in failovers]

    def at(self, time: float) -> int:
        """The number of the failover that something at this time belongs to."""
        return max(0, bisect_right(self._begins, time) - 1)

    def end_of(self, number: int) -> float:
        """When the next one began."""
        return self._begins[number + 1] if number + 1 < len(self._begins) else inf
