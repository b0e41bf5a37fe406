"""What each event loop has of its own, and what becomes of it when the loop ends.

Each `asyncio.run` has a loop of its own, and so has each call of `async_to_sync`. Such a loop ends
without a word to those who used it, but for one: it closes the asynchronous generators that it has
seen. So one of them waits here for the end. A loop that is closed without that leaves its sockets
open, and nobody can close them through it any more; they are closed here by the next call.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import finalize

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing for each event loop that asks for it. Any thread may ask.

    A thing is closed when its loop ends. Where the loop gives no occasion for that, the thing is
    abandoned when another loop asks, and when this object is collected.

    Args:
        make: makes the thing of the running loop; the thing must not refer to whatever holds this,
            which would then never be collected.
        close: closes a thing, in its loop.
        abandon: closes a thing whose loop is closed, in any thread and without waiting.
    """

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]], abandon: Callable[[T], None]
    ) -> None:
        self._make = make
        self._close = close
        self._abandon = abandon
        self._entries: dict[asyncio.AbstractEventLoop, _Entry[T]] = {}
        self._lock = threading.Lock()
        finalize(self, _abandon_closed, self._entries, abandon)

    def get(self) -> T:
        """Return what belongs to the running loop; made when it is not there."""
        loop = asyncio.get_running_loop()
        if len(self._entries) > 1 or loop not in self._entries:
            with self._lock:
                _abandon_closed(self._entries, self._abandon)
                if loop not in self._entries:
                    end = _close_at_the_end(self._entries, loop, self._close)
                    self._entries[loop] = _Entry(self._make(), end)
                    with suppress(StopIteration):
                        anext(end).__await__().send(None)
        return self._entries[loop].thing

    async def aclose(self) -> None:
        """Close what belongs to the running loop, and what closed loops have left."""
        with self._lock:
            _abandon_closed(self._entries, self._abandon)
            entry = self._entries.get(asyncio.get_running_loop())
        if entry is not None:
            await entry.end.aclose()


class _Entry(NamedTuple, Generic[T]):
    thing: T
    end: AsyncGenerator[None]


async def _close_at_the_end(
    entries: dict[asyncio.AbstractEventLoop, _Entry[T]],
    loop: asyncio.AbstractEventLoop,
    close: Callable[[T], Awaitable[None]],
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        entry = entries.pop(loop, None)
        if entry is not None:
            await close(entry.thing)


def _abandon_closed(
    entries: dict[asyncio.AbstractEventLoop, _Entry[T]], abandon: Callable[[T], None]
) -> None:
    for loop in list(entries):  # a copy: a loop of another thread may end meanwhile
        entry = entries.pop(loop, None) if loop.is_closed() else None
        if entry is not None:
            abandon(entry.thing)


def abandon_transport(transport: Any) -> None:
    """Close the socket of a transport whose event loop is closed.

    The socket is not shut down: a parent process may still use it. `abort` marks the transport as
    closing, and fails when it is to tell its protocol. uvloop has closed all sockets by itself.
    """
    with suppress(RuntimeError):
        transport.abort()
    plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    sock = getattr(plain, "_sock", None)
    if sock is not None:
        plain._sock = None  # else it would warn that it was not closed
        sock.close()


def abandon_task(task: "asyncio.Task[Any]") -> None:
    """End a task whose event loop is closed; whatever it still wants to wait for is not there."""
    private: Any = task
    private._log_destroy_pending = False
    with suppress(RuntimeError):
        private.get_coro().close()
