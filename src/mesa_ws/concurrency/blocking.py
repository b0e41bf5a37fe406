"""Errors and warnings where an application mixes up async and plain code."""

import asyncio
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import MesaError


class _Thread(threading.local):
    runs_plain_handler = False


_thread = _Thread()


def run_plain(handler: Callable[..., Any], *args: Any) -> Any:
    """Call a plain handler; until it returns, methods that are `awaited` raise in this thread."""
    _thread.runs_plain_handler = True
    try:
        return handler(*args)
    finally:
        _thread.runs_plain_handler = False


P = ParamSpec("P")
T = TypeVar("T")

Method = Callable[P, Coroutine[Any, Any, T]]


def awaited(name: str, instead: str) -> Callable[[Method[P, T]], Method[P, T]]:
    """Decorate an `async def` method, so that calling it in a plain `def` handler raises at once.

    There the coroutine would be dropped, and nothing would happen. The method works in an event loop
    that the handler runs itself.

    Args:
        name: the method, as applications call it.
        instead: the method to use in a plain handler.
    """

    def decorate(method: Method[P, T]) -> Method[P, T]:
        @wraps(method)
        def checked(*args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
            if _thread.runs_plain_handler and not has_event_loop():
                raise MesaError(
                    f"{name} does nothing in a `def` handler, which cannot await it; use {instead}, "
                    "or make the handler `async def`"
                )
            return method(*args, **options)

        return _marked(checked)

    return decorate


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread; None if there is none."""
    return (
        asyncio._get_running_loop()
    )  # which raises nothing, unlike `get_running_loop`: every dispatch passes


def has_event_loop() -> bool:
    """Return whether an event loop runs in this thread."""
    return running_loop() is not None


def _marked(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a function as a coroutine function for libraries that check, such as asgiref."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


_PACKAGE = __name__.partition(".")[0]

_HAS_WARNED = threading.Event()


def warn_in_event_loop() -> None:
    """Warn, once in a process, if the caller blocks a running event loop.

    The warning names the application's line, however many frames of Mesa are between.
    """
    if running_loop() is not None and not _HAS_WARNED.is_set():
        _HAS_WARNED.set()
        warnings.warn(
            "Dispatcher blocks this event loop until Redis or the server has answered; "
            "use AsyncDispatcher in asyncio, or call it in a thread",
            RuntimeWarning,
            stacklevel=_depth_of_application(),
        )


def _depth_of_application() -> int:
    """Count the frames from the caller of this function up to the first that is not Mesa's."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth
