"""All clients of one server, and how much they have received."""

import select
import socket
import time

from .. import wire
from ..errors import Failed
from .connecting import AT_ONCE, connect_all

REST = 0.001
"""Seconds between two polls of the sockets, so that one read gets several messages."""

_PATIENCE = 50.0

_CLOSE = wire.frame(b"\x03\xe9", opcode=8)


class Clients:
    """Clients that have authenticated."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self._clients: dict[int, socket.socket] = {}
        self._numbers: dict[int, int] = {}
        self._total = 0
        self._buffer = bytearray(1 << 16)

    def connect(self, port: int, count: int, at_once: int = AT_ONCE) -> None:
        """Connect `count` more clients; their ids continue the numbers of the present ones."""
        first = len(self._clients)
        for handshake in connect_all(self.epoll, port, range(first, first + count), at_once=at_once):
            fd = handshake.socket.fileno()
            self._clients[fd] = handshake.socket
            self._numbers[fd] = handshake.number

    def read(self, count: int) -> None:
        """Read until all clients together have received `count` bytes."""
        deadline, self._total = time.monotonic() + _PATIENCE, 0
        while self._total < count:
            if time.monotonic() > deadline:
                raise Failed(f"expected {count} bytes within {_PATIENCE:g} s, got {self._total}")
            for fd, _ in self.epoll.poll(1.0):
                self._read(fd)
            time.sleep(REST)
        if self._total > count:
            raise Failed(f"expected {count} bytes, got {self._total}")

    def drain(self, seconds: float) -> None:
        """Read for some time, whatever comes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self.epoll.poll(left):
                self._read(fd)

    def leave(self) -> None:
        """Answer the close frames of the server, until it has closed all connections."""
        deadline = time.monotonic() + _PATIENCE
        while self._clients:
            if time.monotonic() > deadline:
                raise Failed(f"{len(self._clients)} clients are not closed after {_PATIENCE:g} s")
            for fd, _ in self.epoll.poll(1.0):
                if self._clients[fd].recv_into(self._buffer):
                    self._clients[fd].send(_CLOSE)
                else:
                    self._clients.pop(fd).close()

    def send(self, messages: int) -> None:
        """Send messages, each client in turn, as fast as the server reads."""
        frame, clients = wire.message(), list(self._clients.values())
        for number in range(messages):
            client = clients[number % len(clients)]
            rest = memoryview(frame)
            while rest:
                try:
                    rest = rest[client.send(rest) :]
                except BlockingIOError:
                    _wait_until_writable(client)

    def drop(self) -> None:
        """Reset all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._numbers.clear()

    def _read(self, fd: int) -> None:
        count = self._clients[fd].recv_into(self._buffer)
        if not count:
            raise Failed(f"the server closed client {self._numbers[fd]}")
        self._total += count


def _wait_until_writable(client: socket.socket) -> None:
    poll = select.poll()
    poll.register(client, select.POLLOUT)
    if not poll.poll(_PATIENCE * 1000):
        raise Failed(f"the server has read nothing for {_PATIENCE:g} s")
