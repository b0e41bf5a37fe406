"""Work that SIGINT, SIGTERM and SIGQUIT end, as they do in 1.x.

starting ──up──▶ running ──signal──▶ stopping, within a limit ──▶ ended
    └──────signal: cancelled at once──────────────────────────────▶ ended

A second signal does not wait. Work that does not end is named in the log and left behind.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any, TypeVar

from ..calling.left_behind import report_tasks
from ..concurrency.tasks import start
from ..errors import MesaError
from .event_loop import CANCEL_GRACE, PlainLoop, new_event_loop, own_event_loop

Entered = TypeVar("Entered")
Result = TypeVar("Result")

Heed = Callable[["asyncio.Task[Any]"], float]
"""Tells work of a signal; returns the seconds that it gets to end."""

log = logging.getLogger("mesa_ws.server")


class Interrupted(Exception):
    """The work was ended by a signal.

    Attributes:
        exit_code: what shells expect of a process that this signal ended.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def run_until_signal(
    running: AbstractAsyncContextManager[Entered],
    on_start: Callable[[Entered], Any] | None,
    limit: float,
) -> None:
    """Stay inside `running`, in an event loop of its own, until a signal comes.

    A signal that comes before it was entered cancels that.

    Args:
        running: entered, and left after the signal.
        on_start: called with what entering gave.
        limit: seconds that leaving may take.

    Raises:
        MesaError: an event loop runs in this thread.
    """
    stop = asyncio.Event()
    is_up = False

    async def stay() -> None:
        nonlocal is_up
        async with running as entered:
            is_up = True
            if on_start is not None:
                on_start(entered)
            await stop.wait()

    def heed(task: "asyncio.Task[Any]") -> float:
        stop.set()
        if is_up:
            return limit
        task.cancel()
        return CANCEL_GRACE

    _check_no_loop()
    try:
        run(stay(), heed)
    except Interrupted:
        return


def run(
    work: Coroutine[Any, Any, Result], heed: Heed, make: Callable[[], PlainLoop] = new_event_loop
) -> Result:
    """Run `work` in an event loop of its own, which a signal may end.

    A handler that exits ends it like a signal, a second one at once.

    Raises:
        Interrupted: a signal came, and the work was cancelled or did not end.
        SystemExit: a handler has called `sys.exit()`.
    """
    with own_event_loop(make) as loop, _signals(loop) as came:
        supervising = start(_supervise(work, came, heed), loop=loop)
        try:
            return loop.run_until_complete(supervising)
        except SystemExit:
            if not came.done():
                came.set_result(signal.SIGTERM)
            with suppress(Interrupted):
                loop.run_until_complete(supervising)
            raise


async def _supervise(work: Coroutine[Any, Any, Result], came: "asyncio.Future[int]", heed: Heed) -> Result:
    task = start(work)
    first: set[asyncio.Future[Any]] = {task, came}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        await asyncio.wait({task}, timeout=heed(task))
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE)
    if came.done() and (not task.done() or task.cancelled()):
        report_tasks(log, {task})
        raise Interrupted(came.result())
    return task.result()


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop) -> "Iterator[asyncio.Future[int]]":
    """Catch the first signal; the second one does what it does without us.

    They are caught outside the event loop, so that the second one works while the loop is blocked.
    """
    came = loop.create_future()
    before = {signum: signal.getsignal(signum) for signum in _DEFAULTS}

    def arrived(signum: int) -> None:
        if not came.done():
            came.set_result(signum)

    def on_signal(signum: int, frame: object) -> None:
        _set(_DEFAULTS)
        loop.call_soon_threadsafe(arrived, signum)

    _set(dict.fromkeys(_DEFAULTS, on_signal))
    try:
        yield came
    finally:
        _set(before)


_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
}


def _set(handlers: dict[signal.Signals, Any]) -> None:
    for signum, handler in handlers.items():
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _check_no_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise MesaError("run: expected a thread without an event loop, got one that runs; use `async with` in it")
