"""Whether a replica that is missing may have become a master, so that what the others confirm does not last.

A replica that is promoted leaves the old master at once. For about a second nothing knows of it but the
Sentinel that did it, while the other replicas still follow the old master and confirm what it writes. All of
that is rolled back. What every replica had confirmed lasts. So where fewer replicas confirm than there were,
that counts only when some time has passed, and most Sentinels, asked afterwards, still name this master.
Without any I/O.
"""

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
