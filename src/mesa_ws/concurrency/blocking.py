"""Refuse coroutine methods where nothing would await them."""

import asyncio
import inspect
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import MesaError

_here = threading.local()


def run_plain(handler: Callable[..., Any], *args: Any) -> Any:
    """Call a plain handler; this thread runs one until it returns."""
    _here.runs_handler = True
    try:
        return handler(*args)
    finally:
        _here.runs_handler = False


def is_in_plain_handler() -> bool:
    """Whether this thread runs a plain handler."""
    return getattr(_here, "runs_handler", False)


P = ParamSpec("P")
T = TypeVar("T")

Method = Callable[P, Coroutine[Any, Any, T]]


def awaited(name: str, instead: str) -> Callable[[Method[P, T]], Method[P, T]]:
    """Decorate an `async def` method, so that calling it in a plain `def` handler raises at once.

    There its coroutine would be dropped, and nothing would happen. In an event loop that the
    handler runs by itself the method works.

    Args:
        name: of the method, as applications call it.
        instead: what to use in a plain handler.
    """

    def decorate(method: Method[P, T]) -> Method[P, T]:
        @wraps(method)
        def checked(*args: P.args, **options: P.kwargs) -> Coroutine[Any, Any, T]:
            if is_in_plain_handler() and not _has_loop():
                raise MesaError(
                    f"{name}: expected an `async def` handler, which awaits it, got a `def` handler, "
                    f"where it would do nothing; use {instead}, or make the handler `async def`"
                )
            return method(*args, **options)

        return _marked(checked)

    return decorate


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _marked(function: Callable[P, T]) -> Callable[P, T]:
    """Let it count as a coroutine function for those who look, such as asgiref."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


_PACKAGE = __name__.partition(".")[0]

_HAS_WARNED = threading.Event()


def warn_in_event_loop() -> None:
    """Warn, once in a process, if the caller blocks a running event loop.

    The warning names the line of the application, however deep in Mesa the call is found out.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    if not _HAS_WARNED.is_set():
        _HAS_WARNED.set()
        warnings.warn(
            "Dispatcher blocks this event loop until Redis or the server has answered; "
            "use AsyncDispatcher in asyncio, or call it in a thread",
            RuntimeWarning,
            stacklevel=_depth_of_application(),
        )


def _depth_of_application() -> int:
    """Count the frames from the caller of this up to the first that is not Mesa's."""
    depth, frame = 0, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        depth, frame = depth + 1, frame.f_back
    return depth
