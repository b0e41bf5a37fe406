"""Tasks that only their owner ends, although code of the application runs in them.

A handler runs in a task of Mesa. It may cancel that task, by itself or through a library, before it
waits or right before it returns; and it may keep the task and cancel it later. None of that may end
the loop that calls handlers. Cancellations look alike, so `survive` tells them apart:

| source of the cancellation | known by | consequence |
|---|---|---|
| the owner of the task | `end` | the task ends |
| the end of the event loop, as in `asyncio.run` | its watch was cancelled too | the task ends |
| a time limit around a handler | `Timeout.expired` | `TimeoutError` |
| anything else | | one call has failed, and the task goes on |

If several do so at once, the first of this table counts.

`Tasks` starts jobs again that end although they should not; without them a node would hear nothing
from other processes, or lose its lease.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, TypeVar

from ..errors import MesaError
from .event_loops import abandon_task
from .left_behind import report_tasks

T = TypeVar("T")

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]
"""Runs work in a task of its own; see `TaskOwner.spawn`."""

CANCEL_GRACE = 1.0
"""Seconds that a task of a `TaskOwner` may take to end after it was cancelled."""

log = logging.getLogger("mesa_ws")
_log = logging.getLogger("mesa_ws.backend")

RESTART_PAUSE = 0.5
"""Seconds until a job that ended is started again."""

ended: set[asyncio.Task[Any]] = set()
"""Tasks that their owners have cancelled, by `end`."""


class _Watch:
    """An idle task, which is cancelled only together with all tasks of its event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, users: int) -> None:
        self.users = users
        self.task = start(_wait_for_ever(loop), name="mesa-watch", context=Context())

    @property
    def is_cancelled(self) -> bool:
        return self.task.done() or self.task.cancelling() > 0


_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


def start(
    work: Coroutine[Any, Any, T],
    *,
    name: str | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    context: Context | None = None,
) -> asyncio.Task[T]:
    """Run `work` in a task of its own, which begins after the caller has returned to the event loop.

    A task factory of the application, such as `asyncio.eager_task_factory`, would begin it at once. The
    task could then end before its creator has recorded it, and handlers would run inside their callers.

    Args:
        work: what to run.
        name: the task's name.
        loop: the event loop; the running one by default.
        context: its context variables; by default a copy of the caller's, which a task that outlives its
            caller would keep in memory.
    """
    loop = loop or asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        return loop.create_task(work, name=name, context=context)
    task = loop.create_task(_later(work), name=name, context=context)
    task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
    return task


def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task as its owner, so that it ends whatever handlers do with the cancellation."""
    if not task.done():
        ended.add(task)
        task.add_done_callback(ended.discard)
        task.cancel()


async def survive(limit: asyncio.Timeout | None = None) -> bool:
    """Take back the cancellations of the current task, unless they are meant to end it.

    Args:
        limit: a time limit around the code that was cancelled.

    Returns:
        Whether one of them had not been raised yet.

    Raises:
        CancelledError: the task is meant to end, or the time is over.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - only tasks can be cancelled
    is_pending = False
    if task.cancelling():
        try:
            await asyncio.sleep(0)  # before Python 3.13, `uncancel` leaves one that is still to be raised
        except asyncio.CancelledError:
            is_pending = True
    if task in ended or (task.cancelling() and _is_loop_ending(task.get_loop())):
        raise asyncio.CancelledError
    is_over = limit is not None and limit.expired()
    while task.cancelling() > is_over:  # the limit takes back its own
        task.uncancel()
    if is_over:
        raise asyncio.CancelledError
    return is_pending


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Await `work()`, and again whenever a cancellation is not meant to end the task."""
    while True:
        try:
            return await work()
        except asyncio.CancelledError:
            await survive()
        log.warning("a task of Mesa was cancelled by foreign code; it goes on")


def watch() -> None:
    """Watch the running event loop, so that `survive` knows when all its tasks are cancelled.

    In an event loop that is not watched, every cancellation ends its task. Balanced by `unwatch`.
    """
    _forget_closed_loops()
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None or watch.is_cancelled:
        watch = _watches[loop] = _Watch(loop, watch.users if watch is not None else 0)
    watch.users += 1


async def unwatch() -> None:
    """Take back one `watch`; the last one leaves nothing behind."""
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None:
        return
    watch.users -= 1
    if not watch.users:
        del _watches[loop]
        watch.task.cancel()
        await asyncio.wait({watch.task})


def _forget_closed_loops() -> None:
    """Drop the records of closed event loops; other threads may do so at the same time."""
    for loop in tuple(_watches):
        if loop.is_closed():
            _watches.pop(loop, None)
    for task in tuple(ended):
        if task.get_loop().is_closed():
            ended.discard(task)


def _is_loop_ending(loop: asyncio.AbstractEventLoop) -> bool:
    watch = _watches.get(loop)
    return watch is None or watch.is_cancelled


async def _wait_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


async def _later(work: Coroutine[Any, Any, T]) -> T:
    await asyncio.sleep(0)
    return await work


class TaskOwner:
    """Runs tasks that end by themselves, in one event loop at a time; the owner waits for them when it stops.

    Args:
        not_running: text of the error if there is no event loop.
        logger: name of the logger for tasks that do not end.
    """

    def __init__(self, not_running: str, logger: str) -> None:
        self._not_running = not_running
        self._logger = logging.getLogger(logger)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` in a task; raise `MesaError` if the owner is not running."""
        task = start(work, loop=self._loop or self._running())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise MesaError(self._not_running)
        return self._loop

    async def _finish_tasks(self, grace: float = 0.0) -> None:
        """Give tasks some time to finish, and cancel those that do not."""
        if grace and (tasks := self._others()):
            await asyncio.wait(tasks, timeout=grace)
        tasks = self._others()
        for task in tasks:
            end(task)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=CANCEL_GRACE)
            self._tasks -= stuck
            report_tasks(self._logger, stuck)

    def _others(self) -> set[asyncio.Task[Any]]:
        """Return all tasks but the current one, which may be of a handler that stops its server."""
        return {task for task in self._tasks if task is not asyncio.current_task()}


class Tasks:
    """Runs jobs that are not meant to end, and starts those again that do; in one event loop.

    Args:
        owner: their owner, as names of tasks and logs call it.
    """

    def __init__(self, owner: str = "node") -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, job: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Run `job` until `aclose`."""
        if self._is_closed:
            return
        task = start(job(), name=f"mesa-{self._owner}-{name}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._on_end, job, name))

    async def aclose(self, timeout: float) -> None:
        """Cancel all jobs, and wait at most `timeout` seconds until they have ended."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            end(task)
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)

    def abandon(self) -> None:
        """End all jobs after the event loop was closed. Never waits."""
        self._is_closed = True
        for task in self._tasks:
            abandon_task(task)

    def _on_end(
        self, job: Callable[[], Coroutine[Any, Any, None]], name: str, task: asyncio.Task[None]
    ) -> None:
        self._tasks.discard(task)
        loop = task.get_loop()
        if self._is_closed or task in ended or (task.cancelling() and _is_loop_ending(loop)):
            return
        error = None if task.cancelled() else task.exception()
        cause = "was cancelled by code it called" if task.cancelled() else "failed" if error else "ended"
        _log.error("the %s of this %s %s; it is started again", name, self._owner, cause, exc_info=error)
        loop.call_later(RESTART_PAUSE, self.start, job, name)


_AROUND: ContextVar["OwnTask | None"] = ContextVar("mesa_ws_client_task", default=None)


class OwnTask:
    """A task that code within it may cancel or wait for, which then does nothing.

    "Within" includes tasks that its code started, such as through `asyncio.wait_for`.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = start(self._run(work))

    async def finish(self) -> None:
        """Wait until the task has ended."""
        if _AROUND.get() is not self:
            await asyncio.wait({self._task})

    def cancel(self) -> None:
        """Cancel the task."""
        if _AROUND.get() is not self:
            end(self._task)

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        _AROUND.set(self)
        await work()
