"""Latency of messages at a fixed rate, each measured from the moment when it was due.

The schedule never waits for an answer, so a slow server does not slow its own measurement down.
Both ends of every measurement are in this process: it triggers the dispatcher, and it
holds the socket of the client that receives.
"""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Any

from .. import wire
from ..errors import Failed

_PATIENCE = 10.0
_BILLION = 1_000_000_000
_stamps = re.compile(rb'"at":"(\d+)"')


class Pacer:
    """Sends ticks to a dispatcher, and receives a message for each.

    Args:
        client: socket of the client that receives.
        port: where the dispatcher listens for ticks.
        take: called with what has been received, to acknowledge it.
    """

    def __init__(self, client: socket.socket, port: int, take: Callable[[bytes], Any]) -> None:
        self._client = client
        self._take = take
        self._dispatcher = socket.create_connection(("127.0.0.1", port))
        self._dispatcher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""
        self._latencies: list[int] = []

    def run(self, rate: int, count: int) -> list[int]:
        """Trigger `count` messages, `rate` a second; return the latency of each in nanoseconds."""
        first = time.monotonic_ns()
        for number in range(count):
            due = first + number * _BILLION // rate
            self._receive_until(due)
            self._dispatcher.sendall(wire.stamp(due).encode() + b"\n")
        deadline = time.monotonic_ns() + int(_PATIENCE * _BILLION)
        while len(self._latencies) < count and time.monotonic_ns() < deadline:
            self._receive_until(time.monotonic_ns() + _BILLION // 100)
        self._dispatcher.close()
        if len(self._latencies) != count:
            raise Failed(f"expected {count} messages, got {len(self._latencies)}")
        return self._latencies

    def _receive_until(self, due: int) -> None:
        """Receive until `due`; select(2) waits with microsecond precision, poll(2) does not."""
        while (left := due - time.monotonic_ns()) > 0:
            if select.select([self._client], [], [], left / _BILLION)[0]:
                self._receive()

    def _receive(self) -> None:
        received = self._client.recv(1 << 16)
        now, end = time.monotonic_ns(), 0
        self._unread += received
        for found in _stamps.finditer(self._unread):
            self._latencies.append(now - int(found[1]))
            end = found.end()
        self._unread = self._unread[end:]
        self._take(received)
