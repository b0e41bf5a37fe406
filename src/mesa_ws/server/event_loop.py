"""The event loop of a node, as other threads use it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from ..concurrency.tasks import TaskOwner, unwatch, watch
from ..errors import BackendUnavailable, MesaError

T = TypeVar("T")

NOT_RUNNING = (
    "the server is not running; use server.run(...) or async with serve(server, ...), "
    "or async with server where a web framework mounts it"
)

_ANOTHER_LOOP = (
    "server.%s was called in another event loop than the server's; "
    "in a `def` handler or another thread use server.%s_blocking, in another loop an AsyncDispatcher"
)

_IN_LOOP = (
    "server.%s_blocking was called in the event loop of the server, which it would block; "
    "use server.%s there and await it"
)


class LoopTasks(TaskOwner):
    """Tasks of a node in its event loop, from `_enter_loop` to `_leave_loop`."""

    def __init__(self) -> None:
        super().__init__(NOT_RUNNING, "mesa_ws.server")
        self._thread = 0
        self._waited: set[Future[Any]] = set()

    @property
    def is_in_this_loop(self) -> bool:
        """Whether the node runs in the event loop of the caller."""
        return self._loop is asyncio.get_running_loop()

    def in_loop(self, callback: Callable[..., None], *args: Any) -> None:
        """Call `callback` in the event loop: at once from there, and soon from another thread."""
        loop = self._loop
        if threading.get_ident() == self._thread:
            callback(*args)
        elif loop is not None:  # without a loop, every connection has ended
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(callback, *args)

    def wait_in_thread(self, method: str, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` in the event loop, in the context of the caller, whose thread waits for the result.

        Raises:
            MesaError: the server is not running, or this is its event loop.
            BackendUnavailable: the server stops before the work is done.
            Exception: raised by the work.
        """
        self._running()
        self.check_thread(method)
        outcome: Future[T] = Future()
        self._waited.add(outcome)
        outcome.add_done_callback(self._waited.discard)
        self.in_loop(self._begin, outcome, work)
        if self._loop is None:  # then the loop may never call `_begin`
            outcome.cancel()
        try:
            return outcome.result()
        except CancelledError:
            raise BackendUnavailable("the server is stopping", maybe_sent=True) from None

    def check_thread(self, method: str) -> None:
        """Raise an error if a blocking method is called in the event loop.

        Raises:
            MesaError: this is the thread of the event loop.
        """
        if self._loop is not None and threading.get_ident() == self._thread:
            raise MesaError(_IN_LOOP % (method, method))

    def _begin(self, outcome: Future[T], work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        if outcome.done():
            return
        try:
            task = self.spawn(work())
        except MesaError as error:
            outcome.set_exception(error)
        else:
            task.add_done_callback(partial(_settle, outcome))

    def _enter_loop(self) -> None:
        if self._loop is not None:
            raise MesaError("the server is running already; make another Server to listen a second time")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        watch()

    async def _leave_loop(self) -> None:
        if self._loop is None:
            return
        self._loop = None
        for outcome in tuple(self._waited):
            outcome.cancel()
        try:
            await self._finish_tasks()  # for example of threads, begun after the others were ended
        finally:
            await unwatch()

    def _check_loop(self, method: str) -> None:
        if self._running() is not asyncio.get_running_loop():
            raise MesaError(_ANOTHER_LOOP % (method, method))


def _settle(outcome: Future[T], task: "asyncio.Task[T]") -> None:
    with suppress(InvalidStateError):  # it was cancelled just now, because the server has stopped
        if task.cancelled():
            outcome.cancel()
        elif (error := task.exception()) is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(task.result())
