"""Tasks of the client in which the application's code runs."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from ..concurrency.tasks import end, start

_AROUND: ContextVar["OwnTask | None"] = ContextVar("mesa_ws_client_task", default=None)


class OwnTask:
    """A task that may be asked from within itself to stop, which then does not wait for itself.

    "Within" includes tasks that were started by the code it runs, such as by `asyncio.wait_for`.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = start(self._run(work))

    async def finish(self) -> None:
        """Wait until it has done its work, or is cancelled."""
        if _AROUND.get() is not self:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Cancel it."""
        if _AROUND.get() is not self:
            end(self._task)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _AROUND.set(self)
        await work()
