"""All clients of one server, and what they have received."""

import select
import socket
import time

from .. import wire
from ..errors import Failed
from .entrance import let_in

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
        first = len(self._clients)
        for arrival in let_in(self.epoll, port, range(first, first + count)):
            fd = arrival.socket.fileno()
            self._clients[fd] = arrival.socket
            self._numbers[fd] = arrival.number
            self._received[fd] = 0

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

    def send(self, messages: int) -> None:
        """Send so many messages, each client in turn, as fast as their server reads."""
        frame, clients = wire.message(), list(self._clients.values())
        for number in range(messages):
            client = clients[number % len(clients)]
            rest = memoryview(frame)
            while rest:
                try:
                    rest = rest[client.send(rest) :]
                except BlockingIOError:
                    _wait_until_writable(client)

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

    def _read(self, fd: int) -> None:
        count = self._clients[fd].recv_into(self._buffer)
        if not count:
            raise Failed(f"the server closed client {self._numbers[fd]}")
        self._received[fd] += count
        self._total += count


def _wait_until_writable(client: socket.socket) -> None:
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    if not poll.poll(_PATIENCE * 1000):
        raise Failed(f"the server has read nothing for {_PATIENCE:g} s")
