"""Calls of handlers: `async def` in the event loop, `def` there or in a bounded pool of threads.

A call fails with an `Exception`, whatever happens in the handler: where the handler raises another
`BaseException`, or cancels the task it runs in, the call fails with an `Exception` that says so. Only
`SystemExit` and `KeyboardInterrupt` pass through the event loop, and end the process as asyncio does;
but they do not leave a thread.
"""

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from ..concurrency.blocking import run_plain
from ..concurrency.left_behind import report_threads
from ..concurrency.tasks import ended, survive
from ..errors import InvalidSettings
from ..text import plain
from .threads import Threads

Handler = Callable[..., Any]

ForMessages = tuple[str | None, Handler]
"""A handler of messages, and the type that it wants; None for all."""


class HandlerCancelled(RuntimeError):
    """A handler was cancelled, or waited for something that was cancelled."""


class Caller:
    """Calls handlers in the context of the caller; plain functions run in threads.

    Args:
        threads: number of plain functions that run at the same time.
        name: prefix of the threads' names.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._name = name
        self._pool: Threads | None = None
        self._in_threads = 0

    @property
    def is_busy(self) -> bool:
        """Whether a plain function waits for a thread, or runs in one."""
        return self._in_threads > 0

    def call(
        self, handler: Handler, *args: Any, limit: asyncio.Timeout | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Call a handler, and wait until it has finished; see the function `call`."""
        run = handler if is_async(handler) else partial(self._in_thread, handler)
        return _call(handler, run, args, limit)

    def shutdown(self, log: logging.Logger) -> None:
        """End the threads, without waiting for those that are busy; `log` names them."""
        if self._pool is not None:
            report_threads(log, self._pool.busy)
            self._pool.shutdown()
            self._pool = None

    async def _in_thread(self, handler: Handler, *args: Any) -> Any:
        if self._pool is None:
            self._pool = Threads(self._threads, self._name)
        run = contextvars.copy_context().run
        self._in_threads += 1
        try:
            result = await asyncio.wrap_future(self._pool.submit(partial(run, _called, handler, *args)))
        finally:
            self._in_threads -= 1
        return await result if isinstance(result, Awaitable) else result


def call(handler: Handler, *args: Any, limit: asyncio.Timeout | None = None) -> Coroutine[Any, Any, Any]:
    """Call a handler in the event loop, and await its result if that is awaitable. For Mesa's own tasks.

    A time limit of Mesa around the call may cancel it.

    Raises:
        Exception: the handler raised it.
        HandlerCancelled: the handler was cancelled, and the task is not meant to end.
        CancelledError: the task is meant to end, or the time is over.
    """
    return _call(handler, handler, args, limit)


async def call_for_application(handler: Handler, *args: Any) -> Any:
    """Call a handler in a task of the application, which the application may cancel.

    Raises:
        Exception: the handler raised it.
        HandlerCancelled: the handler waited for something that was cancelled.
        CancelledError: the task was cancelled, from outside or by the handler.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    try:
        result = handler(*args)
        return await result if isinstance(result, Awaitable) else result
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > before:
            raise
        raise _failure(handler, error, is_cancelled=False) from error


def call_at_once(handler: Handler, *args: Any) -> Any:
    """Call a plain handler in the event loop.

    Raises:
        Exception: the handler raised it.
    """
    try:
        return handler(*args)
    except (Exception, SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _failure(handler, error, is_cancelled=False) from error


async def _call(
    handler: Handler, run: Callable[..., Any], args: tuple[Any, ...], limit: asyncio.Timeout | None
) -> Any:
    try:
        result = run(*args)
        if isinstance(result, Awaitable):
            result = await result
    except Exception:
        if _must_check():
            await survive(limit)
        raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        if isinstance(error, GeneratorExit) and _is_thrown_in(error):
            raise  # the event loop was abandoned, and this coroutine is being collected
        is_cancelled = _must_check()
        await survive(limit)
        raise _failure(handler, error, is_cancelled=is_cancelled) from error
    if _must_check() and await survive(limit):
        raise HandlerCancelled(f"{name_of(handler)} was cancelled")
    return result


def _must_check() -> bool:
    """Return whether the current task was cancelled, so that `survive` has to be called."""
    task = asyncio.current_task()
    return task is not None and (task.cancelling() > 0 or task in ended)


def _is_thrown_in(error: BaseException) -> bool:
    """Return whether an error was raised right where it was caught, and not in a function called there."""
    return error.__traceback__ is None or error.__traceback__.tb_next is None


def _failure(handler: Handler, error: BaseException, *, is_cancelled: bool) -> RuntimeError:
    """Return the error to raise in place of a `BaseException`."""
    if not isinstance(error, asyncio.CancelledError):
        return RuntimeError(f"{name_of(handler)} raised {type(error).__name__}")
    if is_cancelled:
        return HandlerCancelled(f"{name_of(handler)} was cancelled")
    return HandlerCancelled(f"{name_of(handler)} waited for something that was cancelled")


def _called(handler: Handler, *args: Any) -> Any:
    """Call a handler in a thread, out of which only an `Exception` comes.

    A future cannot hold `StopIteration`, and coroutines do not raise it either. Any other
    `BaseException` would end the event loop, or the task that waits.
    """
    try:
        return run_plain(handler, *args)
    except StopIteration as error:
        raise RuntimeError(f"{name_of(handler)} raised StopIteration") from error
    except Exception:
        raise
    except BaseException as error:
        raise _failure(handler, error, is_cancelled=False) from error


def is_async(handler: Handler) -> bool:
    """Return whether a handler runs in the event loop, as `async def` does."""
    code = getattr(handler, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_COROUTINE:  # the same in a fifth of the time
        return True
    call = getattr(handler, "__call__", None)  # noqa: B004 - an object's own __call__ may be async
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def name_of(handler: Handler) -> str:
    """Return the name of a handler for logs."""
    return getattr(handler, "__qualname__", repr(handler))


AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])


def checked(field: str, handler: AnyHandler, *arguments: str) -> AnyHandler:
    """Return `handler` after checking that it can be called with so many arguments.

    The names of the arguments are for the error's text. A function that hides its signature, such as
    one written in C, is not checked.

    Raises:
        InvalidSettings: `handler` cannot be called, or not with so many arguments.
    """
    expected = f"a function to be called as handler({', '.join(arguments)})"
    if not callable(handler):
        raise InvalidSettings(field, expected, handler)
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # written in C
        return handler
    try:
        signature.bind(*arguments)
    except TypeError:
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        raise InvalidSettings(field, expected, f"{name}{signature}") from None
    return handler


def add_checked(handlers: list[Handler], field: str, handler: AnyHandler, *arguments: str) -> AnyHandler:
    """Add a handler to others, and return it; see `checked`."""
    handlers.append(checked(field, handler, *arguments))
    return handler


def of_type(handlers: Sequence[ForMessages], type: str | None) -> list[Handler]:
    """Return the handlers of messages of this type."""
    return [handler for wanted, handler in handlers if wanted is None or wanted == type]


def for_messages(field: str, given: Any, add: Callable[[ForMessages], object], *arguments: str) -> Any:
    """Add a function for all messages, or return a decorator that adds one for messages of a type.

    `given` is the function or the type; `field` and `arguments` are those of `checked`.
    """

    def decorate(type: str | None, function: AnyHandler) -> AnyHandler:
        add((type, checked(field, function, *arguments)))
        return function

    if isinstance(given, str):
        return partial(decorate, plain(given))
    if not callable(given):
        raise InvalidSettings(field, "a function or a message type", given)
    return decorate(None, given)
