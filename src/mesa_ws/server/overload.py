"""What a node does about more work than it can do: it begins less of it, so that what it begins is finished.

Work in flight is bounded by what ends within the patience of clients: a client that has waited too long comes
back, and everything done for it was in vain. So logins wait for their turn before anything is done for them,
and a listener accepts no further connections while logins wait or the event loop lags; connections wait in
the system's backlog, where they cost nothing.
"""

import asyncio
import time
from collections import Counter, deque

from ..concurrency.tasks import CANCEL_GRACE, Tasks

PERIOD = 0.1
"""Seconds between two looks at the clock."""

WINDOW = 10.0
"""Seconds for which the longest lag is remembered, at least."""


class LoopLag:
    """How late the event loop calls what is due.

    Args:
        most: seconds above which the lag is high; below half of that, it is high no longer.

    Attributes:
        is_high: whether the event loop lags.
        longest: the longest lag of the last ten to twenty seconds.
    """

    def __init__(self, most: float) -> None:
        self.is_high = False
        self._most = most
        self._windows = deque([0.0, 0.0], 2)
        self._window_ends = 0.0
        self._tasks: Tasks | None = None

    @property
    def longest(self) -> float:
        """See above."""
        return max(self._windows)

    def start(self) -> None:
        """Watch the running event loop."""
        self._tasks = Tasks("server")
        self._tasks.start(self._watch, "loop-lag")

    async def stop(self) -> None:
        """Watch it no longer."""
        if self._tasks is not None:
            await self._tasks.aclose(CANCEL_GRACE)

    def seen(self, lag: float, now: float) -> None:
        """Take note of a lag."""
        if now >= self._window_ends:
            self._windows.append(0.0)
            self._window_ends = now + WINDOW
        self._windows[-1] = max(self._windows[-1], lag)
        self.is_high = lag > (self._most / 2 if self.is_high else self._most)

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + PERIOD
            await asyncio.sleep(PERIOD)
            now = time.monotonic()
            self.seen(now - due, now)


class LoginQueue:
    """Logins under way, and others that wait for their turn, in order. For one event loop only.

    `async with` it for a login; its value is whether the login had to wait.

    Args:
        most: logins under way at once.

    Attributes:
        under_way: number of logins under way.
        waiting: the turns of those that wait.
        failed: logins that the authenticator `refused`, and those in which it had an `error`.
    """

    def __init__(self, most: int) -> None:
        self.under_way = 0
        self.waiting: deque[asyncio.Future[None]] = deque()
        self.failed = Counter(refused=0, error=0)
        self._most = most

    async def __aenter__(self) -> bool:
        if self.under_way < self._most:
            self.under_way += 1
            return False
        turn = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()
            elif turn in self.waiting:
                self.waiting.remove(turn)
            raise
        return True

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    def _leave(self) -> None:
        """Pass the turn on."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.under_way -= 1
