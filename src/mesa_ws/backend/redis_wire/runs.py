"""Runs of Redis that a node has seen; `scripts/runs.lua` defines a run."""

from collections.abc import Sequence


class Runs:
    """The run that a node saw last, and the last end of a run that it reported.

    Redis gives the end of a run to one node, again and again until that node has reported it.
    """

    def __init__(self) -> None:
        self._last = self._reported = ""

    @property
    def args(self) -> tuple[str, str]:
        """Arguments of a heartbeat."""
        return self._last, self._reported

    def ended(self, found: Sequence[bytes]) -> float | None:
        """Read the runs in the reply to a heartbeat.

        Returns:
            None, unless this node has to report that a run ended; then the time, in seconds of Redis's
            clock, up to which all confirmed data is kept; 0 if none is.
        """
        self._last = found[0].decode()
        if len(found) == 1 or self._last == self._reported:
            return None
        self._reported = self._last
        return int(found[1]) / 1000
