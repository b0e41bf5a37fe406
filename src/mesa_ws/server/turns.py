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
        flow: called with False when that many wait, and with True when half of them are done.
    """

    __slots__ = ("_flow", "_handle", "_is_full", "_most", "_queue", "_spawn", "_worker")

    def __init__(
        self,
        spawn: Spawn,
        handle: Callable[[object], Awaitable[None]],
        most: int,
        flow: Callable[[bool], None],
    ) -> None:
        self._spawn = spawn
        self._handle = handle
        self._most = most
        self._flow = flow
        self._queue: deque[object] | None = None
        self._worker: asyncio.Task[None] | None = None
        self._is_full = False

    def add(self, event: object) -> None:
        """Let `event` be handled after all before it."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if self._worker is None:
            self._worker = self._spawn(self._work())
        if not self._is_full and len(self._queue) >= self._most:
            self._is_full = True
            self._flow(False)

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
                if self._is_full and len(self._queue) <= self._most // 2:
                    self._is_full = False
                    self._flow(True)
        finally:
            self._queue = None
            self._worker = None
