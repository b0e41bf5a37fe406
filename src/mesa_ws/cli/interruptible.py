"""Work that SIGINT, SIGTERM and SIGQUIT end in order: what it has begun is taken down before it ends."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..transports import signals
from ..transports.event_loop import PlainLoop
from ..transports.signals import Interrupted

__all__ = ["Interrupted", "run"]

LIMIT = 15.0
"""Seconds that work gets to end after a signal."""

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in an event loop of its own.

    Raises:
        Interrupted: a signal came, and the work did not end by itself.
    """
    return signals.run(work, _cancel, PlainLoop)


def _cancel(task: "asyncio.Task[Any]") -> float:
    task.cancel()
    return LIMIT
