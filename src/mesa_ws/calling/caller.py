"""Calling handlers: `async def` in the event loop, `def` in a bounded pool of threads."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from threading import Thread
from typing import Any

from .threads import Threads

Handler = Callable[..., Any]


class Caller:
    """Calls handlers, with the context of whoever asks for it.

    Args:
        threads: plain functions that run at the same time.
        name: what the names of their threads begin with.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._pool: Threads | None = None

    async def call(self, handler: Handler, *args: Any) -> Any:
        """Call a handler, and wait until it has finished.

        Raises:
            Exception: whatever it raises; what is none of the kind is the cause of one.
        """
        try:
            result = handler(*args) if is_async(handler) else await self._in_thread(handler, *args)
            return await result if isinstance(result, Awaitable) else result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise RuntimeError(f"{name_of(handler)} waited for something that was cancelled") from error
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # what others derive from it, such as a timeout of gevent
            raise RuntimeError(f"{name_of(handler)} raised {type(error).__name__}") from error

    @property
    def busy(self) -> list[Thread]:
        """The threads that run a handler."""
        return self._pool.busy if self._pool is not None else []

    def shutdown(self) -> None:
        """Let go of the threads; those still busy are not waited for."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    async def _in_thread(self, handler: Handler, *args: Any) -> Any:
        if self._pool is None:
            self._pool = Threads(self._threads, self._name)
        run = contextvars.copy_context().run
        return await asyncio.wrap_future(self._pool.submit(partial(run, _called, handler, *args)))


def _called(handler: Handler, *args: Any) -> Any:
    """Call in a thread. A future cannot hold StopIteration, which coroutines do not let out either."""
    try:
        return handler(*args)
    except StopIteration as error:
        raise RuntimeError(f"{name_of(handler)} raised StopIteration") from error


def is_async(handler: Handler) -> bool:
    """Whether a handler runs in the event loop, as `async def` does."""
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object's own __call__ may be async
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def name_of(handler: Handler) -> str:
    """What to call a handler in logs."""
    return getattr(handler, "__qualname__", repr(handler))
