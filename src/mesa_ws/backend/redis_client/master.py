"""Which Redis is the master, as far as Sentinels report. Without any I/O.

A Sentinel raises the configuration epoch with every failover, and passes it on with the address.
Sentinels learn of a failover one after another, and one that was cut off learns of it late. So the
highest epoch counts, whichever Sentinel reports it and however many report an older one.

Whether a replica that is missing may have become a master, so that what the others confirm does not last.

A replica that is promoted leaves the old master at once. For about a second nothing knows of it but the
Sentinel that did it, while the other replicas still follow the old master and confirm what it writes. All of
that is rolled back. What every replica had confirmed lasts. So where fewer replicas confirm than there were,
that counts only when some time has passed, and most Sentinels, asked afterwards, still name this master.
Without any I/O.
"""

from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

HOLD = 3.0
"""Seconds for which confirmations are held back after a replica is missed. A Sentinel looks every second
whether a replica has become a master, and tells the others at once."""


class Copies:
    """How many replicas one master had, and since when there are fewer. Any thread may use it.

    Args:
        expected: how many there should be, as far as that is known.
    """

    __slots__ = ("_fewer_since", "_most")

    def __init__(self, expected: int = 0) -> None:
        self._most = expected
        self._fewer_since: float | None = None

    def due(self, replicas: int, now: float) -> float | None:
        """From when on so many replicas are enough, if most Sentinels answer after that; None for at once.

        Args:
            replicas: how many there are.
            now: seconds of a monotonic clock.
        """
        if replicas >= self._most:
            self._most, self._fewer_since = replicas, None
            return None
        since = self._fewer_since
        if since is None:
            since = self._fewer_since = now
        return since + HOLD


FORGET = 10.0
"""Seconds for which Sentinels must report only older epochs until one of those counts.

A Sentinel that reported the highest epoch may be away for a moment; Sentinels that were set up again
begin at 0.
"""


class Report(NamedTuple):
    """What one Sentinel reports.

    Attributes:
        host: of the master.
        port: of the master.
        epoch: of the configuration that names it.
        replicas: how many that master has, those that cannot be reached among them.
    """

    host: str
    port: int
    epoch: int
    replicas: int = 0


class Master:
    """A Redis that connections lead to; each connection carries the one it was made for.

    Args:
        host: where it listens.
        port: where it listens.
        epoch: of the configuration that names it.
        copies: tells when fewer replicas are enough; None where no Sentinel could be asked about that.

    Attributes:
        is_left: whether another master counts now, so that connections to this one are given up.
    """

    __slots__ = ("_copies", "epoch", "host", "is_left", "port")

    def __init__(self, host: str, port: int, epoch: int, copies: Copies | None = None) -> None:
        self._copies = copies
        self.host = host
        self.port = port
        self.epoch = epoch
        self.is_left = False

    def due(self, replicas: int, now: float) -> float | None:
        """From when on the confirmation of so many replicas is enough; see `Copies.due`."""
        return self._copies.due(replicas, now) if self._copies is not None and replicas else None

    def __repr__(self) -> str:
        return f"<Master {self.host}:{self.port} of epoch {self.epoch}>"


FIXED = Master("", 0, 0)
"""The master of an address without Sentinels; it is never left."""


class MasterChoice:
    """The master that counts, and how reports change that.

    Attributes:
        master: None before the first report.
    """

    def __init__(self) -> None:
        self.master: Master | None = None
        self._contradicted_since: float | None = None

    def take(self, reports: Collection[Report], now: float) -> Master | None:
        """Read what Sentinels report at the same time.

        Args:
            reports: none where no Sentinel answered; then the last master still counts.
            now: seconds of a monotonic clock.

        Returns:
            The master that does not count any more, if there was one and this is news.
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
        # How many replicas a master has after a failover is counted anew: the old master may stay away.
        expected = max(report.replicas for report in newest) if left is None else 0
        self.master = Master(host, port, epoch, Copies(expected))
        return left

    def _is_older(self, epoch: int, now: float) -> bool:
        """Whether the present master counts more than what is reported now."""
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
        """Return the address that most of equal reports name; the present one where it is among them."""
        names = Counter((report.host, report.port) for report in newest)
        if self.master is not None and (self.master.host, self.master.port) in names:
            return (self.master.host, self.master.port)
        return names.most_common(1)[0][0]
