"""Masters, and which of them a process uses.

Sentinels are reports here, and processes read them as the shipped `MasterChoice` does: whether Redis
answered as a master, the shipped `Batch` says. So what is tried is that they keep all that a process
does at one master.
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
    """A master, and all that is known of what it holds."""

    store: Store
    watch: Watch


class Sentinels:
    """What each of them reports.

    Args:
        port: of the first master.
    """

    def __init__(self, port: int) -> None:
        self._reports = [Report("127.0.0.1", port, 1)] * SENTINELS

    def name(self, port: int, late: int) -> None:
        """Name another master, of a higher epoch; one of them may not know of it so far."""
        newest = Report("127.0.0.1", port, 1 + max(report.epoch for report in self._reports))
        self._reports = [report if number == late else newest for number, report in enumerate(self._reports)]

    def agree(self) -> None:
        """All report what any of them knows."""
        self._reports = [max(self._reports, key=lambda report: report.epoch)] * SENTINELS

    def reports(self, heard: Sequence[int]) -> list[Report]:
        """What some of them report."""
        return [self._reports[number] for number in heard]


class Process:
    """Something that has connections to the master.

    Args:
        is_scattered: whether each connection asks for itself; the model has to object.
    """

    def __init__(self, *, is_scattered: bool = False) -> None:
        self._choices = [MasterChoice() for _ in range(1 + is_scattered)]

    @property
    def connections(self) -> range:
        """Those that choose by themselves."""
        return range(len(self._choices))

    def port(self, connection: int) -> int:
        """Where a connection leads to now."""
        master = self._choices[connection % len(self._choices)].master
        assert master is not None
        return master.port

    def read(self, reports: Sequence[Report], now: float, connection: int) -> None:
        """Take what Sentinels report."""
        self._choices[connection % len(self._choices)].take(reports, now)


def is_misled(reply: Any) -> bool:
    """Whether a reply makes a process ask the Sentinels."""
    batch = Batch([("EVALSHA",)])
    batch.on_replies([reply])
    return batch.is_misled
