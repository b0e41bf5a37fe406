"""Work that SIGINT, SIGTERM and SIGQUIT end, as they do in 1.x."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

Entered = TypeVar("Entered")


async def until_signal(
    running: AbstractAsyncContextManager[Entered], on_start: Callable[[Entered], Any] | None = None
) -> None:
    """Stay inside `running` until a signal comes; a second one does not wait until it has been left."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(signum: int) -> None:
        stop.set()
        loop.remove_signal_handler(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        loop.add_signal_handler(signum, on_signal, signum)
    async with running as entered:
        if on_start is not None:
            on_start(entered)
        await stop.wait()
