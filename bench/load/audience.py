"""Clients that read what they are sent, and prove to have it: by op 11, or on wire 2 by op 3."""

import select
import time
from collections import deque

from ..errors import Failed
from .entrance import let_in
from .listener import Listener

ACKNOWLEDGE_AFTER = 1.0
"""Seconds for which a client of wire 2 may keep a proof to itself (spec section 17.6)."""

REST = 0.001
"""Seconds between two looks at the sockets."""

_PATIENCE = 50.0


class Audience:
    """Clients that have authenticated."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._listeners: dict[int, Listener] = {}
        self._due: deque[tuple[float, Listener]] = deque()
        self._total = 0

    def connect(self, port: int, first: int, count: int, *, is_wire2: bool) -> None:
        """Let clients in whose ids are numbers from `first` on."""
        numbers = range(first, first + count)
        for arrival in let_in(self._epoll, port, numbers, is_wire2=is_wire2, read=self._read):
            listener = Listener(arrival, is_wire2=is_wire2)
            self._listeners[arrival.socket.fileno()] = listener
            self._take(listener, b"")

    def hear(self, count: int, rest: float = REST) -> None:
        """Read until `count` messages have come since this was asked last, all clients together."""
        deadline = time.monotonic() + _PATIENCE
        while self._total < count:
            if time.monotonic() > deadline:
                raise Failed(f"expected {count} messages within {_PATIENCE:g} s, got {self._total}")
            self._look(rest)
        if self._total > count:
            raise Failed(f"expected {count} messages, got {self._total}")
        self._total = 0

    def prove(self) -> None:
        """Read until every client has proven what it was sent."""
        deadline = time.monotonic() + _PATIENCE
        while any(listener.is_unproven for listener in self._listeners.values()):
            if time.monotonic() > deadline:
                raise Failed(f"not all clients were asked for a proof within {_PATIENCE:g} s")
            self._look()

    def log_in(self, port: int, first: int, count: int, messages: int, *, is_wire2: bool) -> float:
        """Let clients in for whom `messages` wait in all; return the seconds until they have them."""
        began = time.perf_counter()
        self.connect(port, first, count, is_wire2=is_wire2)
        self.hear(messages, rest=0)
        return time.perf_counter() - began

    def counts(self) -> tuple[int, int]:
        """The fewest and the most messages that one client has received."""
        counts = [listener.count for listener in self._listeners.values()]
        return min(counts), max(counts)

    def drop(self) -> None:
        """Cut all clients off."""
        for listener in self._listeners.values():
            listener.socket.close()
        self._listeners.clear()
        self._due.clear()

    def _look(self, rest: float = REST) -> None:
        for fd, _ in self._epoll.poll(REST):
            self._read(fd)
        self._acknowledge_due()
        time.sleep(rest)

    def _read(self, fd: int) -> None:
        listener = self._listeners[fd]
        received = listener.socket.recv(1 << 16)
        if not received:
            raise Failed(f"the server closed client {listener.number}")
        self._take(listener, received)

    def _take(self, listener: Listener, received: bytes) -> None:
        had_proven = not listener.is_unproven
        self._total += listener.take(received)
        if listener.is_wire2 and had_proven and listener.is_unproven:
            self._due.append((time.monotonic() + ACKNOWLEDGE_AFTER, listener))

    def _acknowledge_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._due.popleft()[1].acknowledge()
