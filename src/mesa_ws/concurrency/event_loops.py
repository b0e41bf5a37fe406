"""One object for each event loop, closed together with its loop.

Each `asyncio.run` has a loop of its own, and so has each call of `async_to_sync`. Such a loop ends
without notice to the code that used it, with one exception: it closes the asynchronous generators
that it has seen. So `PerLoop` leaves one of them in the loop. A loop that is closed without that
leaves its sockets open, and they cannot be closed through it any more; the next call closes them.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, NamedTuple, TypeVar
from weakref import finalize

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One object for each event loop that asks for it. Any thread may ask.

    An object is closed when its loop ends. Where the loop gives no occasion for that, the object is
    abandoned when another loop asks, and when this `PerLoop` is collected.

    Args:
        make: makes the object of the running loop; it must not refer to the owner of this `PerLoop`,
            which would then never be collected.
        close: closes an object, in its loop.
        abandon: closes an object whose loop is closed, in any thread and without waiting.

    Attributes:
        entries: the object of each loop. A caller of every message looks here first, and calls `get` where
            its loop is missing or not alone.
    """

    def __init__(
        self, make: Callable[[], T], close: Callable[[T], Awaitable[None]], abandon: Callable[[T], None]
    ) -> None:
        self._make = make
        self._close = close
        self._abandon = abandon
        self.entries: dict[asyncio.AbstractEventLoop, LoopEntry[T]] = {}
        self._lock = threading.Lock()
        finalize(self, _abandon_closed, self.entries, abandon)

    def get(self) -> T:
        """Return the object of the running loop, made if there is none; abandon those of closed loops."""
        loop = asyncio.get_running_loop()
        with self._lock:
            _abandon_closed(self.entries, self._abandon)
            if loop not in self.entries:
                end = _close_at_the_end(self.entries, loop, self._close)
                self.entries[loop] = LoopEntry(self._make(), end)
                with suppress(StopIteration):
                    anext(end).__await__().send(None)
            return self.entries[loop].value

    async def aclose(self) -> None:
        """Close the object of the running loop, and abandon those of closed loops."""
        with self._lock:
            _abandon_closed(self.entries, self._abandon)
            entry = self.entries.get(asyncio.get_running_loop())
        if entry is not None:
            await entry.end.aclose()


class LoopEntry(NamedTuple, Generic[T]):
    """The object of one loop, and the generator that closes it."""

    value: T
    end: AsyncGenerator[None]


async def _close_at_the_end(
    entries: dict[asyncio.AbstractEventLoop, LoopEntry[T]],
    loop: asyncio.AbstractEventLoop,
    close: Callable[[T], Awaitable[None]],
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        entry = entries.pop(loop, None)
        if entry is not None:
            await close(entry.value)


def _abandon_closed(
    entries: dict[asyncio.AbstractEventLoop, LoopEntry[T]], abandon: Callable[[T], None]
) -> None:
    for loop in list(entries):  # a copy: a loop of another thread may end at the same time
        entry = entries.pop(loop, None) if loop.is_closed() else None
        if entry is not None:
            abandon(entry.value)


def abandon_transport(transport: Any) -> None:
    """Close the socket of a transport whose event loop is closed.

    The socket is not shut down: a parent process may still use it. `abort` marks the transport as
    closing, and fails where it would call its protocol. uvloop has closed all sockets by itself.
    """
    with suppress(RuntimeError):
        transport.abort()
    plain = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    sock = getattr(plain, "_sock", None)
    if sock is not None:
        plain._sock = None  # else it would warn that it was not closed
        sock.close()


def abandon_task(task: "asyncio.Task[Any]") -> None:
    """End a task whose event loop is closed, so that nothing it waits for can happen any more."""
    private: Any = task
    private._log_destroy_pending = False
    with suppress(RuntimeError):
        private.get_coro().close()
