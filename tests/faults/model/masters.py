"""Masters, and the choice of processes among them.

Sentinels are reports here. Processes choose with the shipped `MasterChoice`, and the shipped `Batch`
tells whether Redis answered as a master. The model checks that all connections of a process use one
master.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mesa_ws.backend.redis_client.batch import Batch
from mesa_ws.backend.redis_client.master import MasterChoice, Report

from .store import Store
from .watch import Watch

SENTINELS = 3

ALL = tuple(range(SENTINELS))


class Home(NamedTuple):
    """A master, and its expected data."""

    store: Store
    watch: Watch


class Sentinels:
    """The reports of all Sentinels.

    Args:
        port: port of the first master.
    """

    def __init__(self, port: int) -> None:
        self._reports = [Report("127.0.0.1", port, 1)] * SENTINELS

    def name(self, port: int, late: int) -> None:
        """Report another master with a higher epoch; one Sentinel may not know it yet."""
        newest = Report("127.0.0.1", port, 1 + max(report.epoch for report in self._reports))
        self._reports = [report if number == late else newest for number, report in enumerate(self._reports)]

    def agree(self) -> None:
        """Spread the newest report to all Sentinels."""
        self._reports = [max(self._reports, key=lambda report: report.epoch)] * SENTINELS

    def reports(self, heard: Sequence[int]) -> list[Report]:
        """Return the reports of some Sentinels."""
        return [self._reports[number] for number in heard]


class Process:
    """A process with connections to the master.

    Args:
        is_scattered: whether each connection queries the Sentinels itself; the model must object.
    """

    def __init__(self, *, is_scattered: bool = False) -> None:
        self._choices = [MasterChoice() for _ in range(1 + is_scattered)]

    @property
    def connections(self) -> range:
        """Return the connections that choose by themselves."""
        return range(len(self._choices))

    def port(self, connection: int) -> int:
        """Return the master that a connection leads to."""
        master = self._choices[connection % len(self._choices)].master
        assert master is not None
        return master.port

    def read(self, reports: Sequence[Report], now: float, connection: int) -> None:
        """Process reports of Sentinels."""
        self._choices[connection % len(self._choices)].take(reports, now)


def is_misled(reply: Any) -> bool:
    """Return whether a reply makes a process query the Sentinels."""
    batch = Batch([("EVALSHA",)])
    batch.begin(0.0)
    batch.add(reply)
    return batch.is_misled
