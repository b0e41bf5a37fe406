"""The event loop that a node belongs to, and the work it does there."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from ..calling.left_behind import report_tasks
from ..concurrency.tasks import end, start, unwatch, watch
from ..errors import MesaError

log = logging.getLogger("mesa_ws.server")

NOT_RUNNING = "the server is not running; use server.run(...) or async with serve(server, ...)"

CANCEL_GRACE = 1.0
"""Seconds that work gets after it was cancelled."""

_ANOTHER_LOOP = (
    "server.%s: expected the event loop of the server, got another one; "
    "make the handler `async def`, or use a Dispatcher in threads"
)


class LoopWork:
    """What a node does in its event loop, from `_enter_loop` to `_leave_loop`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    @property
    def is_in_loop(self) -> bool:
        """Whether there is an event loop."""
        return self._loop is not None

    def now(self) -> float:
        """The event loop's time, in seconds."""
        return self._running().time()

    def at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when`, in the time of `now`."""
        return self._running().call_at(when, callback)

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop: at once if we are in it, else as soon as possible."""
        loop = self._loop
        if threading.get_ident() == self._thread:
            callback(*args)
        elif loop is not None:  # without it every connection has ended, and there is nothing to do
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(callback, *args)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` on its own; `stop` waits for it."""
        task = start(work, loop=self._running())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _enter_loop(self) -> None:
        if self._loop is not None:
            raise MesaError("the server is running already; make another Server to listen once more")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        watch()

    async def _leave_loop(self) -> None:
        if self._loop is not None:
            self._loop = None
            await unwatch()

    async def _finish_tasks(self, grace: float) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in tuple(self._tasks):
            end(task)
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=CANCEL_GRACE)
            report_tasks(log, stuck)

    def _check_loop(self, method: str) -> None:
        if self._running() is not asyncio.get_running_loop():
            raise MesaError(_ANOTHER_LOOP % method)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise MesaError(NOT_RUNNING)
        return self._loop
