"""Many light clients of one server, which come back as the Python client does. Argument: the core to run on.

Each client has the deadlines and pauses of `mesa_ws.Client`, obeys `Retry-After`, answers Pings, and resumes
from its position.
"""

import errno
import heapq
import json
import os
import select
import socket
import sys
import time
from enum import Enum, auto
from itertools import count
from typing import Any

from mesa_ws.concurrency.retry import ReconnectBackoff
from mesa_ws.settings import ClientLimits, Reconnection

from .. import wire

ADDRESSES = 32
"""Loopback addresses of the clients; each has some 28 000 ports."""

LOGIN_TIMEOUT = 10.0
"""Seconds to wait for the answer to a login, as `Client.authenticate` does."""

_BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7): choose the port at connect, for this destination alone
_limits = ClientLimits()
_PING, _CLOSE = 0x9, 0x8
_PONG = wire.frame(b"", opcode=0xA)
_GOODBYE = wire.frame((1000).to_bytes(2), opcode=_CLOSE)


class State(Enum):
    """What a client waits for."""

    PAUSE = auto()
    CONNECTION = auto()
    HELLO = auto()
    LOGIN = auto()
    NOTHING = auto()
    CLOSE = auto()


class Client:
    """One client: a state, and the deadline of that state."""

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self._crowd = crowd
        self._number = number
        self._backoff = ReconnectBackoff(Reconnection())
        self._socket: socket.socket | None = None
        self._received = b""
        self._resume: dict[str, Any] | None = None
        self.state = State.PAUSE
        self.due = 0.0
        self.since = 0.0

    def connect(self) -> None:
        """Begin an attempt."""
        self._crowd.attempts += 1
        self._received = b""
        opened = self._socket = socket.socket()
        opened.setblocking(False)
        opened.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        opened.bind((f"127.0.1.{1 + self._number % ADDRESSES}", 0))
        self._crowd.begin(self, opened)
        self._wait(State.CONNECTION, _limits.connect_timeout)
        problem = opened.connect_ex(("127.0.0.1", self._crowd.port))
        if problem not in (0, errno.EINPROGRESS):
            self._lost()

    def writable(self) -> None:
        """Send the request, since the connection is open."""
        assert self._socket is not None
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._lost()
            return
        self._socket.send(wire.request())
        self._crowd.epoll.modify(self._socket, select.EPOLLIN)

    def readable(self) -> None:
        """Go as far as possible."""
        assert self._socket is not None
        try:
            received = self._socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            self._lost()
            return
        self._received += received
        if self.state is State.CONNECTION:
            head, end, self._received = self._received.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._refused(head)
                return
            self._wait(State.HELLO, _limits.connect_timeout)
        self._read_frames()

    def expire(self) -> None:
        """Do what is due: the pause or the patience is over."""
        if self.state is State.PAUSE:
            self.connect()
            return
        if self.state is State.LOGIN and self._socket is not None:
            self._crowd.expired += 1
            try:
                self._socket.send(_GOODBYE)
            except OSError:
                self._lost()
            else:
                self._wait(State.CLOSE, _limits.close_timeout)
            return
        self._crowd.expired += self.state is not State.CLOSE
        self._lost()

    def _read_frames(self) -> None:
        while len(self._received) >= 2 and self._socket is not None:
            opcode = self._received[0] & 0xF
            payloads, rest = wire.split(self._received, 1)
            if not payloads and opcode == _PING and self._received[1] == 0:  # `split` wants four bytes
                rest = self._received[2:]
            elif not payloads:
                return
            self._received = rest
            if opcode == _CLOSE:
                self._lost()
            elif opcode == _PING:
                self._socket.send(_PONG)
            else:
                self._take(payloads[0])

    def _take(self, payload: bytes) -> None:
        frame = json.loads(payload)
        if frame["op"] == 10:
            assert self._socket is not None
            extension: dict[str, Any] = {"v": 2}
            if self._resume is not None:
                extension["resume"] = self._resume
            data = {"id": str(self._number), "shouldSync": True}
            login = {"op": 2, "d": data, "x": extension}
            self._socket.send(wire.frame(json.dumps(login, separators=(",", ":")).encode()))
            if self.state is State.HELLO:
                self._wait(State.LOGIN, LOGIN_TIMEOUT)
        elif frame["op"] == 22 and self.state is State.LOGIN:
            position = frame["x"]
            self._resume = {"e": position["e"], "s": position["s"]}
            if "b" in position:
                self._resume["b"] = {"e": position["b"]["e"], "s": position["b"]["s"]}
            self.state, self.since, self.due = State.NOTHING, time.monotonic(), 0.0
            self._crowd.back += 1

    def _refused(self, head: bytes) -> None:
        self._crowd.refused += 1
        fields = dict(line.split(": ", 1) for line in head.decode().lower().split("\r\n")[1:])
        self._lost(float(fields.get("retry-after", "0")) or None)

    def _lost(self, retry_after: float | None = None) -> None:
        if self._socket is not None:
            self._crowd.end(self._socket)
            self._socket = None
        if self.state is State.NOTHING:
            self._crowd.back -= 1
            self._backoff.lasted(time.monotonic() - self.since)
        self._wait(State.PAUSE, self._backoff.next(None, retry_after))

    def _wait(self, state: State, seconds: float) -> None:
        self.state = state
        self.due = time.monotonic() + seconds
        self._crowd.wake_at(self.due, self)


class Crowd:
    """All clients, one epoll, and one timer.

    Attributes:
        back: clients that are logged in.
        attempts: connections that were begun.
        refused: requests that were answered with something else than a WebSocket.
        expired: attempts that were given up because they took too long.
    """

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.port = 0
        self.back = self.attempts = self.refused = self.expired = 0
        self._clients: list[Client] = []
        self._by_descriptor: dict[int, Client] = {}
        self._timers: list[tuple[float, int, Client]] = []
        self._numbers = count()

    def connect(self, port: int, count: int) -> dict[str, Any]:
        """Make the clients, which connect within a few seconds."""
        self.port = port
        self._clients = [Client(self, number) for number in range(count)]
        for number, client in enumerate(self._clients):
            client.due = time.monotonic() + number / 1000
            self.wake_at(client.due, client)
        return {}

    def progress(self) -> dict[str, Any]:
        """Return the counts; those of attempts begin at 0 again once all clients are back."""
        found = {
            "back": self.back,
            "attempts": self.attempts,
            "refused": self.refused,
            "expired": self.expired,
        }
        if self.back == len(self._clients):
            self.attempts = self.refused = self.expired = 0
        return found

    def since(self) -> dict[str, Any]:
        """Return since when each client is logged in."""
        up = ((n, each) for n, each in enumerate(self._clients) if each.state is State.NOTHING)
        return {"since": {str(number): client.since for number, client in up}}

    def begin(self, client: Client, opened: socket.socket) -> None:
        """Watch a socket."""
        self._by_descriptor[opened.fileno()] = client
        self.epoll.register(opened, select.EPOLLOUT)

    def end(self, opened: socket.socket) -> None:
        """Close a socket."""
        del self._by_descriptor[opened.fileno()]
        opened.close()

    def wake_at(self, due: float, client: Client) -> None:
        """Call `client.expire` then, if that is still its deadline."""
        heapq.heappush(self._timers, (due, next(self._numbers), client))

    def obey(self) -> None:
        """Work, and answer orders, until standard input ends."""
        self.epoll.register(sys.stdin, select.EPOLLIN)
        while True:
            pause = self._timers[0][0] - time.monotonic() if self._timers else 1.0
            for descriptor, events in self.epoll.poll(max(0.0, min(pause, 1.0)), 512):
                if descriptor == sys.stdin.fileno():
                    if not self._answer():
                        return
                    continue
                client = self._by_descriptor.get(descriptor)
                if client is None:
                    continue
                if client.state is State.CONNECTION and events & select.EPOLLOUT:
                    client.writable()
                else:
                    client.readable()
            self._run_timers()

    def _run_timers(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            due, _, client = heapq.heappop(self._timers)
            if client.due == due:
                client.expire()

    def _answer(self) -> bool:
        line = sys.stdin.buffer.readline()
        if line:
            details = json.loads(line)
            print(json.dumps(getattr(self, details.pop("order"))(**details)), flush=True)
        return bool(line)


if __name__ == "__main__":
    os.sched_setaffinity(0, [int(sys.argv[1])])
    Crowd().obey()
