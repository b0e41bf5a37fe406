"""Refuse coroutine methods where nothing would await them."""

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from ..errors import MesaError
from ..plain_handler import is_in_plain_handler

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
