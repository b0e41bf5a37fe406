"""Calling the application's functions: `async def`, or `def` in the event loop."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


class CallbackCancelled(Exception):
    """A callback was cancelled from outside, or waited for something that was."""


async def call(function: Callable[..., Any], *args: Any) -> Any:
    """Call it, and wait for its result if it has to be waited for.

    Raises:
        CallbackCancelled: it was cancelled, and the caller is not.
        Exception: whatever it raises.
    """
    try:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallbackCancelled("what the callback waited for was cancelled") from error
