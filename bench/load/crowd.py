"""All clients of one server, and what they have received."""

import select
import socket
import time
from collections.abc import Iterator

from ..errors import Failed
from .arrival import Arrival

AT_ONCE = 100
"""Clients that are on their way in at the same time."""

REST = 0.001
"""Seconds between two looks at the sockets, in which several messages gather in each."""

_PATIENCE = 50.0


class Crowd:
    """Clients that have authenticated."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._received: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._total = 0
        self._buffer = bytearray(1 << 16)

    def connect(self, port: int, count: int) -> None:
        """Let `count` more clients in; their ids go on from those that are there."""
        numbers = iter(range(len(self._clients), len(self._clients) + count))
        arrivals: dict[int, Arrival] = {}
        deadline = time.monotonic() + _PATIENCE
        self._start(port, numbers, AT_ONCE, arrivals)
        while arrivals:
            if time.monotonic() > deadline:
                raise Failed(f"{len(arrivals)} clients are not acknowledged after {_PATIENCE:g} s")
            ready = sum(self._advance(fd, arrivals) for fd, _ in self.epoll.poll(1.0) if fd in arrivals)
            self._start(port, numbers, ready, arrivals)

    def read(self, count: int) -> None:
        """Read until `count` bytes have come, all clients together."""
        deadline, self._total = time.monotonic() + _PATIENCE, 0
        while self._total < count:
            if time.monotonic() > deadline:
                raise Failed(f"expected {count} bytes within {_PATIENCE:g} s, got {self._total}")
            for fd, _ in self.epoll.poll(1.0):
                self._read(fd)
            time.sleep(REST)
        if self._total > count:
            raise Failed(f"expected {count} bytes, got {self._total}")

    def forget_counts(self) -> None:
        """Count what each client receives from nothing again."""
        self._received = dict.fromkeys(self._received, 0)

    def counts(self) -> tuple[int, int]:
        """The fewest and the most bytes that one client has received."""
        return min(self._received.values()), max(self._received.values())

    def client(self, number: int) -> socket.socket:
        """The socket of the client with this id."""
        return next(self._clients[fd] for fd, each in self._numbers.items() if each == number)

    def drop(self) -> None:
        """Cut all clients off."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._received.clear()
        self._numbers.clear()

    def _start(self, port: int, numbers: Iterator[int], count: int, arrivals: dict[int, Arrival]) -> None:
        for _, number in zip(range(count), numbers, strict=False):
            arrival = Arrival(port, number)
            fd = arrival.socket.fileno()
            arrivals[fd] = arrival
            self._numbers[fd] = number
            self.epoll.register(fd, select.EPOLLOUT)

    def _advance(self, fd: int, arrivals: dict[int, Arrival]) -> bool:
        self.epoll.modify(fd, select.EPOLLIN)
        arrival = arrivals[fd]
        if not arrival.step():
            return False
        del arrivals[fd]
        self._clients[fd] = arrival.socket
        self._received[fd] = 0
        return True

    def _read(self, fd: int) -> None:
        count = self._clients[fd].recv_into(self._buffer)
        if not count:
            raise Failed(f"the server closed client {self._numbers[fd]}")
        self._received[fd] += count
        self._total += count
