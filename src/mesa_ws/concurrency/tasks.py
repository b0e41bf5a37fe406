"""Tasks that go on whatever happens to them: without one of them its owner would be deaf or dead.

Tasks that their owner alone ends, although the application's code runs in them.

A handler runs in a task of Mesa. It may cancel that task, by itself or through a library, before it
waits or right before it returns; and it may keep the task and cancel it later. None of that may end
the loop that calls handlers. Cancellations look alike, so those who may end a task say so:

| who cancels | known by | what follows |
|---|---|---|
| the owner of the task | `end` | the task ends |
| the end of the event loop, as in `asyncio.run` | its watch was cancelled too | the task ends |
| a time limit around a handler | `Timeout.expired` | `TimeoutError` |
| anything else | | one call has failed, and the task goes on |

If several do so at once, the first of this table counts.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from .event_loops import abandon_task

T = TypeVar("T")

log = logging.getLogger("mesa_ws")

_ended: set[asyncio.Task[Any]] = set()


class _Watch:
    """A task that does nothing, and is cancelled only if all tasks of its event loop are."""

    def __init__(self, loop: asyncio.AbstractEventLoop, users: int) -> None:
        self.users = users
        self.task = start(_wait_for_ever(loop), name="mesa-watch")

    @property
    def is_cancelled(self) -> bool:
        return self.task.done() or self.task.cancelling() > 0


_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


def start(
    work: Coroutine[Any, Any, T], *, name: str | None = None, loop: asyncio.AbstractEventLoop | None = None
) -> asyncio.Task[T]:
    """Run `work` in a task of its own, which begins after the caller has returned to the event loop.

    A task factory of the application, such as `asyncio.eager_task_factory`, may begin it at once. The
    task would then end before its creator has noted it, and handlers would run inside of their callers.
    """
    loop = loop or asyncio.get_running_loop()
    if loop.get_task_factory() is None:
        return loop.create_task(work, name=name)
    task = loop.create_task(_later(work), name=name)
    task.add_done_callback(lambda _: work.close())  # it may have been cancelled before it began
    return task


def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task as its owner: it ends, whatever handlers do with the cancellation."""
    if not task.done():
        _ended.add(task)
        task.add_done_callback(_ended.discard)
        task.cancel()


def must_check() -> bool:
    """Whether the current task was cancelled, or is ended, and `survive` is to be called."""
    task = asyncio.current_task()
    return task is not None and (task.cancelling() > 0 or task in _ended)


async def survive(limit: asyncio.Timeout | None = None) -> bool:
    """Take back the cancellations of the current task, unless they are meant to end it.

    Args:
        limit: a time limit around what was cancelled.

    Returns:
        Whether one of them had not been raised so far.

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
    if task in _ended or (task.cancelling() and _is_loop_ending(task.get_loop())):
        raise asyncio.CancelledError
    is_over = limit is not None and limit.expired()
    while task.cancelling() > is_over:  # the limit takes back its own
        task.uncancel()
    if is_over:
        raise asyncio.CancelledError
    return is_pending


async def persist(work: Callable[[], Awaitable[T]]) -> T:
    """Carry out `work`, and begin it again if it is cancelled and the task is not meant to end."""
    while True:
        try:
            return await work()
        except asyncio.CancelledError:
            await survive()
        log.warning("a task of Mesa was cancelled by other code than its own; it goes on")


def watch() -> None:
    """Notice from now on if all tasks of the running event loop are cancelled.

    Tasks of an event loop that is not watched end with every cancellation. Balanced by `unwatch`.
    """
    _forget_closed_loops()
    loop = asyncio.get_running_loop()
    watch = _watches.get(loop)
    if watch is None or watch.is_cancelled:
        watch = _watches[loop] = _Watch(loop, watch.users if watch is not None else 0)
    watch.users += 1


async def unwatch() -> None:
    """Take back one `watch`; nothing is left after the last one."""
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
    """Forget what event loops left that were closed; other threads may do so at the same time."""
    for loop in tuple(_watches):
        if loop.is_closed():
            _watches.pop(loop, None)
    for task in tuple(_ended):
        if task.get_loop().is_closed():
            _ended.discard(task)


def _is_loop_ending(loop: asyncio.AbstractEventLoop) -> bool:
    watch = _watches.get(loop)
    return watch is None or watch.is_cancelled


async def _wait_for_ever(loop: asyncio.AbstractEventLoop) -> None:
    await loop.create_future()


async def _later(work: Coroutine[Any, Any, T]) -> T:
    await asyncio.sleep(0)
    return await work


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
