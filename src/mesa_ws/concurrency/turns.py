"""Turns of the event loop, shared by work that does not wait of itself."""

import asyncio
from time import monotonic

TURN = 0.002
"""Seconds that one kind of work may take in a turn of the event loop."""


class Turn:
    """The time that one kind of work takes in each turn of the event loop, in all tasks together.

    A task that waits in between begins in a later turn, so it does not yield without need.
    """

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end: float | None = None

    def is_over(self) -> bool:
        """Whether the work has taken its time; then its tasks `await asyncio.sleep(0)` between two steps."""
        now = monotonic()
        if self._end is None:
            self._end = now + TURN
            asyncio.get_running_loop().call_soon(self._begin)
        return now >= self._end

    def _begin(self) -> None:
        self._end = None
