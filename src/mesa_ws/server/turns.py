"""What a client caused, waiting for its turn: handled one after another, in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Turns:
    """A queue with a task that works on it, which exists only while there is something to do.

    Args:
        spawn: runs the task.
        handle: handles one event.
        most: events after which no more shall come.
        flow: called when that many wait and for each that is added then, and again when half of
            them are done.

    Attributes:
        most: see above.
        is_full: whether that many wait, or did and half of them still do.
    """

    __slots__ = ("_flow", "_handle", "_queue", "_spawn", "_worker", "is_full", "most")

    def __init__(
        self,
        spawn: Spawn,
        handle: Callable[[object], Awaitable[None]],
        most: int,
        flow: Callable[[], None],
    ) -> None:
        self._spawn = spawn
        self._handle = handle
        self.most = most
        self._flow = flow
        self._queue: deque[object] | None = None
        self._worker: asyncio.Task[None] | None = None
        self.is_full = False

    @property
    def waiting(self) -> int:
        """Events that wait for their turn."""
        return len(self._queue) if self._queue else 0

    def add(self, event: object) -> None:
        """Let `event` be handled after all before it."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if self._worker is None:
            self._worker = self._spawn(self._work())
        if self.is_full or len(self._queue) >= self.most:
            self.is_full = True
            self._flow()

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
                if self.is_full and len(self._queue) <= self.most // 2:
                    self.is_full = False
                    self._flow()
        finally:
            self._queue = None
            self._worker = None
