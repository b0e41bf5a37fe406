"""Clients of any server, which count messages and, where they have that, acknowledge them."""

import select
import time
from collections import deque
from typing import Any

from ..errors import Failed
from .acknowledging_client import AcknowledgingClient
from .connecting import connect_all
from .counting_client import CountingClient, position
from .dialects import DIALECTS, Conversation, Dialect, centrifugo

ACKNOWLEDGE_AFTER = 1.0
"""Seconds for which a client of wire 2 may delay an acknowledgement (spec section 17.6)."""

REST = 0.001
"""Seconds between two polls of the sockets."""

_PATIENCE = 50.0
_ACKNOWLEDGING = ("mesa-1", "mesa-2")


class MessageClients:
    """Clients that have authenticated, all in one dialect; see `bench.load.dialects`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._clients: dict[int, AcknowledgingClient | CountingClient] = {}
        self._positions: dict[int, dict[str, Any]] = {}
        self._due: deque[tuple[float, AcknowledgingClient | CountingClient]] = deque()
        self._total = 0

    def connect(self, port: int, first: int, count: int, dialect: str) -> None:
        """Connect clients whose ids are the numbers from `first` on.

        Those of Centrifugo continue where they were at their last login.
        """
        spoken = DIALECTS[dialect]
        if dialect == "centrifugo":
            spoken = Dialect(spoken.path, self._continue)
        numbers = range(first, first + count)
        for handshake in connect_all(self._epoll, port, numbers, dialect=spoken, read=self._read):
            client: AcknowledgingClient | CountingClient
            if dialect in _ACKNOWLEDGING:
                client, beginning = AcknowledgingClient(handshake, is_wire2=dialect == "mesa-2"), b""
            else:
                client, beginning = CountingClient(handshake), handshake.acknowledgement + handshake.rest
            if dialect == "centrifugo":
                self._positions[handshake.number] = position(handshake)
            self._clients[handshake.socket.fileno()] = client
            self._take(client, beginning)

    def client(self, number: int) -> AcknowledgingClient | CountingClient:
        """Return the client with this id."""
        return next(client for client in self._clients.values() if client.number == number)

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

    def log_in(self, port: int, first: int, count: int, messages: int, dialect: str) -> float:
        """Connect clients that have `messages` stored in all; return the seconds until they have them."""
        began = time.perf_counter()
        self.connect(port, first, count, dialect)
        self.receive(messages, rest=0)
        return time.perf_counter() - began

    def counts(self) -> tuple[int, int]:
        """Return the fewest and the most messages that one client has received since the last call."""
        counts = [client.count for client in self._clients.values()]
        for client in self._clients.values():
            client.count = 0
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

    def _continue(self, id: str) -> Conversation:
        return centrifugo(id, self._positions.get(int(id)))

    def _take(self, client: AcknowledgingClient | CountingClient, received: bytes) -> None:
        had_acknowledged = not client.is_unacknowledged
        self._total += client.take(received)
        if client.is_wire2 and had_acknowledged and client.is_unacknowledged:
            self._due.append((time.monotonic() + ACKNOWLEDGE_AFTER, client))

    def _acknowledge_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            self._due.popleft()[1].acknowledge()
