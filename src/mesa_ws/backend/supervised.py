"""Tasks that go on whatever happens to them: without one of them its owner would be deaf or dead."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ..concurrency.tasks import end, start, survive
from .event_loops import abandon_task

PAUSE = 0.5
"""Seconds before a task that ended begins anew."""

RETRY = 1.0
"""Seconds after which a sign of life that failed is tried again, unless a part of the lease is less."""

RETRIES = 15
"""The parts of a lease that are meant: so many attempts fit into one."""

_log = logging.getLogger("mesa_ws.backend")


class Tasks:
    """Runs jobs that are not meant to end, and begins those anew that do; in one event loop.

    Args:
        whose: who has them, for names and logs.
    """

    def __init__(self, whose: str = "node") -> None:
        self._whose = whose
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, job: Callable[[], Awaitable[None]], name: str) -> None:
        """Run `job` until `aclose`."""
        task = start(self._go_on(job, name), name=f"mesa-{self._whose}-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self, timeout: float) -> None:
        """Cancel all of them, and wait at most `timeout` seconds for that."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            end(task)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def abandon(self) -> None:
        """End all of them after the event loop was closed. Never waits."""
        self._is_closed = True
        for task in self._tasks:
            abandon_task(task)

    async def _go_on(self, job: Callable[[], Awaitable[None]], name: str) -> None:
        while not self._is_closed:  # connecting to Sentinel may swallow a cancellation
            try:
                await job()
                _log.error("the %s of this %s ended; it begins anew", name, self._whose)
            except asyncio.CancelledError:
                await survive()
                _log.error(
                    "the %s of this %s was cancelled by what it called; it begins anew", name, self._whose
                )
            except Exception:
                if self._is_closed:
                    raise
                _log.exception("the %s of this %s failed; it begins anew", name, self._whose)
            if not self._is_closed:
                await asyncio.sleep(PAUSE)


def retry_after(lease: float) -> float:
    """Return the seconds after which a sign of life that failed is tried again."""
    return min(RETRY, lease / RETRIES)
