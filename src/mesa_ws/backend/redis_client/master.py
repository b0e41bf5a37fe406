"""Choice of the master from the reports of Sentinels, and of the confirmations to trust. No I/O.

A Sentinel raises the configuration epoch with every failover, and reports it with the address.
Sentinels learn of a failover one after another, and a Sentinel that was cut off learns of it late. So
the highest epoch counts, however many Sentinels still report an older one.

A promoted replica leaves the old master at once. For about a second only the Sentinel that promoted it
knows. The other replicas still follow the old master and confirm its writes, all of which are rolled back
later. Only writes that every replica confirmed survive. So when fewer replicas confirm than
before, the confirmation counts only after some time, and only if most Sentinels, asked after it, still
name this master.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

HOLD = 3.0
"""Seconds for which confirmations are held back after a replica goes missing. A Sentinel checks every
second whether a replica has become a master, and informs the others at once."""

FORGET = 10.0
"""Seconds for which Sentinels must report only older epochs until one of those counts.

The Sentinel that reported the highest epoch may be unreachable for a moment; Sentinels that were set up
again start at 0.
"""


class Report(NamedTuple):
    """Report of one Sentinel.

    Attributes:
        host: of the master.
        port: of the master.
        epoch: of the configuration that names it.
        replicas: number of its replicas, including those that cannot be reached.
    """

    host: str
    port: int
    epoch: int
    replicas: int = 0


class Master:
    """A Redis that connections lead to; each connection carries the master it was opened for.

    Args:
        host: where it listens.
        port: where it listens.
        epoch: of the configuration that names it.
        replicas: the number that it should have, as far as it is known; None without Sentinels.

    Attributes:
        is_left: whether another master counts now, so that connections to this one are closed.
    """

    __slots__ = ("_fewer_since", "_most", "epoch", "host", "is_left", "port")

    def __init__(self, host: str, port: int, epoch: int, replicas: int | None = None) -> None:
        self._most = replicas
        self._fewer_since: float | None = None
        self.host = host
        self.port = port
        self.epoch = epoch
        self.is_left = False

    def due(self, replicas: int, now: float) -> float | None:
        """Return when so many replicas are enough, if most Sentinels answer after that; None for at once.

        Thread-safe; `now` is of a monotonic clock.
        """
        if self._most is None or not replicas:
            return None
        if replicas >= self._most:
            self._most, self._fewer_since = replicas, None
            return None
        since = self._fewer_since
        if since is None:
            since = self._fewer_since = now
        return since + HOLD

    def __repr__(self) -> str:
        return f"<Master {self.host}:{self.port} of epoch {self.epoch}>"


FIXED = Master("", 0, 0)
"""The master of an address without Sentinels; it is never left."""


class MasterChoice:
    """The current master, updated from reports.

    Attributes:
        master: None before the first report.
    """

    def __init__(self) -> None:
        self.master: Master | None = None
        self._contradicted_since: float | None = None

    def take(self, reports: Collection[Report], now: float) -> Master | None:
        """Update the master from reports of the same time; return the previous one if another one counts.

        While no Sentinel answers, the last master counts.
        """
        if not reports:
            return None
        epoch = max(report.epoch for report in reports)
        if self._is_older(epoch, now):
            return None
        newest = [report for report in reports if report.epoch == epoch]
        host, port = self._named(newest)
        left = self.master
        if left is not None and (left.host, left.port, left.epoch) == (host, port, epoch):
            return None
        # After a failover the replicas are counted from zero: the old master may stay away.
        expected = max(report.replicas for report in newest) if left is None else 0
        self.master = Master(host, port, epoch, expected)
        return left

    def _is_older(self, epoch: int, now: float) -> bool:
        """Whether the present master still outranks the epoch reported now."""
        if self.master is None or epoch >= self.master.epoch:
            self._contradicted_since = None
            return False
        if self._contradicted_since is None:
            self._contradicted_since = now
        if now - self._contradicted_since < FORGET:
            return True
        self._contradicted_since = None
        return False

    def _named(self, newest: Collection[Report]) -> tuple[str, int]:
        """Return the address that most reports of one epoch name, or the present one if any names it."""
        names = Counter((report.host, report.port) for report in newest)
        if self.master is not None and (self.master.host, self.master.port) in names:
            return (self.master.host, self.master.port)
        return names.most_common(1)[0][0]
