"""Work that SIGINT and SIGTERM end in order: what it has begun is taken down before it ends."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class Interrupted(Exception):
    """The work was ended by a signal, and has cleaned up.

    Attributes:
        exit_code: what shells expect of a process that this signal ended.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` in an event loop of its own.

    Raises:
        Interrupted: SIGINT or SIGTERM came.
    """
    return asyncio.run(_run(work))


async def _run(work: Coroutine[Any, Any, Result]) -> Result:
    loop, task, came = asyncio.get_running_loop(), asyncio.ensure_future(work), []

    def on_signal(signum: int) -> None:
        came.append(signum)
        task.cancel()

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, on_signal, signum)
    try:
        return await task
    except asyncio.CancelledError:
        if not came:
            raise
        raise Interrupted(came[0]) from None
