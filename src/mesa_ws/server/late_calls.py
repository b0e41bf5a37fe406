"""Calls of one hook that nothing waits for: made later, one after another."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from ..calling import Handler, name_of
from .handlers import Handlers

log = logging.getLogger("mesa_ws.server")

MOST = 10_000
"""Calls that wait; further ones are dropped."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class LateCalls:
    """Calls a hook in order, and holds up nobody else's. For the event loop only.

    Args:
        handlers: calls it, and reports what it raises.
        hook: what is called.
        spawn: runs the work.
    """

    def __init__(self, handlers: Handlers, hook: Handler, spawn: Spawn) -> None:
        self._handlers = handlers
        self._hook = hook
        self._spawn = spawn
        self._waiting: deque[tuple[object, tuple[Any, ...]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._dropped = 0

    def add(self, connection: object, *args: Any) -> None:
        """Let it be called with `args`, of which `connection` is whose they are."""
        if len(self._waiting) >= MOST:
            if not self._dropped:
                log.warning(
                    "%s is too slow: %d calls wait, further ones are dropped", name_of(self._hook), MOST
                )
            self._dropped += 1
            return
        self._waiting.append((connection, args))
        if self._worker is None:
            self._worker = self._spawn(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting:
                connection, args = self._waiting.popleft()
                await self._handlers.tell(self._hook, connection, *args)
            if self._dropped:
                log.warning("%d calls of %s were dropped", self._dropped, name_of(self._hook))
        finally:  # a server that stops does not wait for calls, and has none to make when it starts again
            self._waiting.clear()
            self._worker, self._dropped = None, 0
