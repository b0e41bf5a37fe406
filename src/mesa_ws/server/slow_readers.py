"""Bounds the memory of what waits for slow clients, over all connections of a node.

Only send queues for which something waits are known here; all others cost nothing. What they have is counted
for each of them, also where several wait for the same bytes, so that the memory in use is never more.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from ..concurrency.limited_log import LimitedLog


class Measured(Protocol):
    """A send queue, as it is counted."""

    give_up: Callable[[str], None]

    def measure(self) -> int:
        """Return the bytes of memory that wait for the client now."""

    def cut(self) -> None:
        """End the connection at once, and free what waits for it."""


class _Sizes:
    """Sizes of queues, and their sum."""

    def __init__(self) -> None:
        self.by_queue: dict[Measured, int] = {}
        self.sum = 0

    def set(self, queue: Measured, size: int) -> None:
        self.sum += size - self.by_queue.pop(queue, 0)
        if size:
            self.by_queue[queue] = size


class SlowReaders:
    """Closes the clients for which most waits, before all together have more waiting than they may.

    A client is closed with a code after which it may come back and resume. It has a moment to read what waits
    and its close frame, but loses this if the memory is needed: so the closing begins at three quarters of
    the bound, and what waits for clients that are closing is freed when all together reach seven eighths. The
    rest is for one large message, and for what memory costs besides.

    What was read since it was counted is found out before a client is closed. As many clients are closed as
    to leave some room, so that this is not necessary for every message.

    For the event loop only.

    Args:
        most: bytes that may wait for all clients together.
        log: gets a line a minute if clients are closed.

    Attributes:
        closed: clients that were closed, by the limit: this one, or that of one connection.
        skipped: messages that slow clients did not get, as their senders allow: `volatile` ones that were
            dropped, and `latest` ones that a newer one replaced.
    """

    def __init__(self, most: int, log: LimitedLog) -> None:
        self._most = most
        self._mark = most * 3 // 4
        self._full = most * 7 // 8
        self._log = log
        self._open = _Sizes()
        self._closing = _Sizes()
        self._is_choosing = False
        self.closed: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    @property
    def waiting(self) -> int:
        """Bytes that wait for all clients."""
        return self._open.sum + self._closing.sum

    def count(self, queue: Measured, size: int) -> None:
        """Count `size` bytes that wait for a client; this may close it, or others."""
        self._open.set(queue, size)
        if self._open.sum > self._mark:
            self._close_slowest()
        self._free()

    def closing(self, queue: Measured, size: int) -> None:
        """Count what waits for a client that is closing, until it has ended: then `size` is 0."""
        self._open.set(queue, 0)
        self._closing.set(queue, size)
        self._free()

    def _close_slowest(self) -> None:
        if self._is_choosing:  # the end of one connection may have others written to
            return
        self._is_choosing = True
        try:
            sizes = self._open.by_queue
            for queue in tuple(sizes):
                self._open.set(queue, queue.measure())
            for queue in sorted(sizes, key=sizes.__getitem__, reverse=True):
                if self._open.sum <= self._mark * 15 // 16:
                    break
                if queue in sizes:
                    self._close(queue, sizes[queue])
        finally:
            self._is_choosing = False

    def _close(self, queue: Measured, size: int) -> None:
        self.closed["max_node_buffer"] += 1
        self._log.warning(
            "limits.max_node_buffer is %d: closing a client that reads slowly, for which %d bytes wait",
            self._most,
            size,
        )
        queue.give_up(f"{size} bytes wait to be read, and too many for all clients together")

    def _free(self) -> None:
        if self.waiting > self._full:
            for queue in tuple(self._closing.by_queue):
                self._closing.set(queue, 0)
                queue.cut()
