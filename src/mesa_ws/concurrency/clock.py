"""The time of the system, moved forward in event loops of tests that ask for it."""

import asyncio
import time
from typing import Any

from .blocking import running_loop

MOVED = "mesa_ws_moved"
"""Attribute of an event loop: the seconds by which its time was moved forward."""


def unix_time() -> float:
    """Return the Unix time in seconds, as far as the running event loop was moved forward later."""
    return time.time() + _moved(running_loop())


def monotonic() -> float:
    """Return `time.monotonic()`, likewise."""
    return time.monotonic() + _moved(running_loop())


def move(loop: asyncio.BaseEventLoop, seconds: float) -> None:
    """Move the time of an event loop forward, for good."""
    if not hasattr(loop, MOVED):
        patched: Any = loop
        patched.time = _Moved(loop)
    setattr(loop, MOVED, _moved(loop) + seconds)


class _Moved:
    """The method `time` of an event loop that was moved."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._time = loop.time

    def __call__(self) -> float:
        return self._time() + _moved(self._loop)


def _moved(loop: asyncio.AbstractEventLoop | None) -> float:
    seconds: float = getattr(loop, MOVED, 0.0)
    return seconds
