"""Event loops for Mesa's own processes: the process can end even if a task or a thread hangs.

`asyncio.run` waits without a limit for tasks that swallow their cancellation and for the threads of
its executor, and uvloop waits for libuv's lookups of names. The loops of this module wait for none of
them.
"""

import asyncio
import ipaddress
import logging
import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..concurrency.left_behind import report_tasks, report_threads
from ..concurrency.tasks import start
from ..handlers.threads import Threads

CANCEL_GRACE = 1.0
"""Seconds that cancelled tasks get to end when a loop is closed, and then asynchronous generators."""

THREAD_GRACE = 5.0
"""Seconds that threads of the executor get after that."""

MAX_LOOKUPS = 8
"""Names that are looked up at the same time."""

log = logging.getLogger("mesa_ws.server")


class _OwnThreads:
    """The threads of our event loops, none of which keeps the process alive."""

    def __init__(self) -> None:
        super().__init__()
        self.executor = _Executor()
        self.lookups = Threads(MAX_LOOKUPS, "mesa-lookup")
        self.set_default_executor(self.executor)  # type: ignore[attr-defined]

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """Look up a name; lookups that hang take no thread from the executor."""
        return await asyncio.wrap_future(
            self.lookups.submit(partial(socket.getaddrinfo, host, port, **hints))
        )

    async def addresses(self, host: str, port: Any, options: dict[str, Any]) -> list[str]:
        """Return the addresses of a host to try for a TCP socket, in their order."""
        hints = {name: options.get(name, 0) for name in ("family", "proto", "flags")}
        found = await self.getaddrinfo(host, port, type=socket.SOCK_STREAM, **hints)
        return list(dict.fromkeys(place[0] for *_, place in found))


class _Executor(ThreadPoolExecutor):
    """An executor of the type that event loops insist on, with threads that end with the process."""

    def __init__(self) -> None:
        super().__init__()
        self.threads = Threads(min(32, (os.cpu_count() or 1) + 4), "mesa-executor")
        self.running: set[Future[Any]] = set()

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> "Future[Any]":
        """Call a function in a thread."""
        future = self.threads.submit(partial(function, *args, **options))
        self.running.add(future)
        future.add_done_callback(self.running.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads without waiting for busy ones."""
        self.threads.shutdown()


class PlainLoop(_OwnThreads, asyncio.SelectorEventLoop):
    """asyncio's event loop."""


new_event_loop: Callable[[], PlainLoop]
try:
    import uvloop
except ImportError:  # pragma: no cover - uvloop does not exist for every platform
    new_event_loop = PlainLoop
else:
    _Uvloop: Any = uvloop.Loop

    class _FastLoop(_OwnThreads, _Uvloop):  # type: ignore[misc]
        """uvloop's event loop; it would look names up in threads of libuv, which a process joins."""

        async def create_connection(
            self, factory: Any, host: Any = None, port: Any = None, **options: Any
        ) -> Any:
            if not _is_name(host):
                return await super().create_connection(factory, host, port, **options)
            if options.get("ssl") and options.get("server_hostname") is None:
                options["server_hostname"] = host
            problem = OSError(f"no address for {host}")
            for address in await self.addresses(host, port, options):
                try:
                    return await super().create_connection(factory, address, port, **options)
                except OSError as error:
                    problem = error
            raise problem

    new_event_loop = _FastLoop


@contextmanager
def own_event_loop(make: Callable[[], PlainLoop] = new_event_loop) -> Iterator[asyncio.AbstractEventLoop]:
    """Make the event loop of this thread, and close it after the block, even if tasks still run."""
    loop = make()
    asyncio.set_event_loop(loop)
    has_time = False  # a second signal does not wait
    try:
        yield loop
        has_time = True
    except Exception:
        has_time = True
        raise
    finally:
        try:
            loop.run_until_complete(_wind_up(loop, has_time))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


async def _wind_up(loop: PlainLoop, has_time: bool) -> None:
    grace, grace_of_threads = (CANCEL_GRACE, THREAD_GRACE) if has_time else (0.0, 0.0)
    if await _end_all(grace):  # generators that a task still runs cannot be closed
        await asyncio.wait({start(loop.shutdown_asyncgens())}, timeout=grace)
        await _end_all(grace)
    works = [asyncio.wrap_future(each) for each in tuple(loop.executor.running)]
    if works:
        await asyncio.wait(works, timeout=grace_of_threads)
    report_threads(log, [*loop.executor.threads.busy, *loop.lookups.busy])
    loop.lookups.shutdown()


async def _end_all(grace: float) -> bool:
    """Cancel all tasks but this one, and return whether they ended; the loop reports none that did not."""
    tasks: set[Any] = asyncio.all_tasks() - {asyncio.current_task()}
    if not tasks:
        return True
    for task in tasks:
        task.cancel()
    _, stuck = await asyncio.wait(tasks, timeout=grace)
    report_tasks(log, stuck)
    for task in stuck:
        task._log_destroy_pending = False
    return not stuck


def _is_name(host: object) -> bool:
    if not isinstance(host, str) or not host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
