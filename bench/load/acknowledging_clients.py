"""Clients that acknowledge what they receive: by op 11, or on wire 2 by op 3."""

import select
import time
from collections import deque

from ..errors import Failed
from .acknowledging_client import AcknowledgingClient
from .connecting import connect_all

ACKNOWLEDGE_AFTER = 1.0
"""Seconds for which a client of wire 2 may delay an acknowledgement (spec section 17.6)."""

REST = 0.001
"""Seconds between two polls of the sockets."""

_PATIENCE = 50.0


class AcknowledgingClients:
    """Clients that have authenticated."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, AcknowledgingClient] = {}
        self._due: deque[tuple[float, AcknowledgingClient]] = deque()
        self._total = 0

    def connect(self, port: int, first: int, count: int, *, is_wire2: bool) -> None:
        """Connect clients whose ids are the numbers from `first` on."""
        numbers = range(first, first + count)
        for handshake in connect_all(self._epoll, port, numbers, is_wire2=is_wire2, read=self._read):
            client = AcknowledgingClient(handshake, is_wire2=is_wire2)
            self._clients[handshake.socket.fileno()] = client
            self._take(client, b"")

    def receive(self, count: int, rest: float = REST) -> None:
        """Read until all clients together have received `count` messages since the last call."""
        deadline = time.monotonic() + _PATIENCE
        while self._total < count:
            if time.monotonic() > deadline:
                raise Failed(f"expected {count} messages within {_PATIENCE:g} s, got {self._total}")
            self._look(rest)
        if self._total > count:
            raise Failed(f"expected {count} messages, got {self._total}")
        self._total = 0

    def acknowledge(self) -> None:
        """Read until every client has acknowledged what it was sent."""
        deadline = time.monotonic() + _PATIENCE
        while any(client.is_unacknowledged for client in self._clients.values()):
            if time.monotonic() > deadline:
                raise Failed(f"not all clients have acknowledged within {_PATIENCE:g} s")
            self._look()

    def log_in(self, port: int, first: int, count: int, messages: int, *, is_wire2: bool) -> float:
        """Connect clients that have `messages` stored in all; return the seconds until they have them."""
        began = time.perf_counter()
        self.connect(port, first, count, is_wire2=is_wire2)
        self.receive(messages, rest=0)
        return time.perf_counter() - began

    def counts(self) -> tuple[int, int]:
        """Return the fewest and the most messages that one client has received."""
        counts = [client.count for client in self._clients.values()]
        return min(counts), max(counts)

    def drop(self) -> None:
        """Reset all connections."""
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()
        self._due.clear()

    def _look(self, rest: float = REST) -> None:
        for fd, _ in self._epoll.poll(REST):
            self._read(fd)
        self._acknowledge_due()
        time.sleep(rest)

    def _read(self, fd: int) -> None:
        client = self._clients[fd]
        received = client.socket.recv(1 << 16)
        if not received:
            raise Failed(f"the server closed client {client.number}")
        self._take(client, received)

    def _take(self, client: AcknowledgingClient, received: bytes) -> None:
        had_acknowledged = not client.is_unacknowledged
        self._total += client.take(received)
        if client.is_wire2 and had_acknowledged and client.is_unacknowledged:
            self._due.append((time.monotonic() + ACKNOWLEDGE_AFTER, client))

    def _acknowledge_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._due.popleft()[1].acknowledge()
