"""What a node knows of the runs of Redis; `scripts/runs.lua` says what a run is."""

from collections.abc import Sequence


class Runs:
    """Keeps which run a node saw last, and which end of one it has told.

    Redis gives the end of a run to one node, again and again until that has told it.
    """

    def __init__(self) -> None:
        self._last = self._told = ""

    @property
    def args(self) -> tuple[str, str]:
        """What a heartbeat says of them."""
        return self._last, self._told

    def ended(self, found: Sequence[bytes]) -> float | None:
        """Take what a heartbeat found.

        Returns:
            If this node is to tell that a run has ended: up to when, in seconds of Redis's clock,
            all that was confirmed is kept; 0 if nothing is.
        """
        self._last = found[0].decode()
        if len(found) == 1 or self._last == self._told:
            return None
        self._told = self._last
        return int(found[1]) / 1000
