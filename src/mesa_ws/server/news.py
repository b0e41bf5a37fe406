"""What applications are told of ids, outside of any connection: in order for each id."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

Telling = Callable[[], Awaitable[None]]


class IdNews:
    """Calls handlers about ids: those of one id one after another, those of others meanwhile.

    Args:
        spawn: runs the work.
    """

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._spawn = spawn
        self._waiting: dict[str, deque[Telling]] = {}

    def add(self, id: str, tell: Telling) -> None:
        """Let `tell` be called after what was added for `id` before."""
        if id in self._waiting:
            self._waiting[id].append(tell)
            return
        self._waiting[id] = deque((tell,))
        self._spawn(self._tell(id))

    async def _tell(self, id: str) -> None:
        waiting = self._waiting[id]
        try:
            while waiting:
                await waiting.popleft()()
        finally:
            del self._waiting[id]
