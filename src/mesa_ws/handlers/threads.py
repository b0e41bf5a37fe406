"""Threads for plain functions, which do not keep a process alive that stops.

The interpreter joins the threads of `concurrent.futures` when it ends. So a handler that hangs would
keep the process of a server or portal running after it has stopped, until it is killed.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

_Work = tuple["Future[Any]", Callable[[], Any]]


class Threads:
    """Runs functions in threads, which are started as they are needed. Use it from one thread.

    Args:
        most: number of threads.
        name: prefix of their names.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._works: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0
        self._at_work: dict[threading.Thread, Future[Any]] = {}

    @property
    def busy(self) -> list[threading.Thread]:
        """The threads that run a function."""
        return [thread for thread, future in self._at_work.copy().items() if not future.done()]

    def submit(self, run: Callable[[], Any]) -> "Future[Any]":
        """Call `run` as soon as a thread is free; the future can be cancelled until then."""
        future: Future[Any] = Future()
        self._works.put((future, run))
        if not self._idle.acquire(blocking=False) and self._count < self._most:
            self._count += 1
            name = f"{self._name}_{self._count}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def shutdown(self) -> None:
        """End the threads after the functions they run, without waiting; cancel what has not begun."""
        with suppress(Empty):
            while work := self._works.get_nowait():
                work[0].cancel()
        for _ in range(self._count):
            self._works.put(None)

    def _work(self) -> None:
        while (work := self._works.get()) is not None:
            self._at_work[threading.current_thread()] = work[0]
            _carry_out(*work)
            del (
                work,
                self._at_work[threading.current_thread()],
            )  # or they would live until the next work comes
            self._idle.release()


def _carry_out(future: "Future[Any]", run: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = run()
    except BaseException as error:  # noqa: BLE001 - raised to the caller that waits for the future
        future.set_exception(error)
    else:
        future.set_result(result)
