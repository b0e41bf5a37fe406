"""Opening of one client: socket, WebSocket handshake, and authentication."""

import errno
import os
import socket
import struct

from .. import wire
from ..errors import Failed

CLIENTS_PER_ADDRESS = 10_000
"""Clients of one loopback address; together with the port it must be unique."""

_BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7): choose the port at connect, for this destination alone
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_RECEIVED_BEFORE_READY = 2  # HELLO and the acknowledgement


class Handshake:
    """Drives one non-blocking socket until the server has acknowledged the authentication.

    Args:
        port: where the server listens.
        number: the client's id.
        is_wire2: whether the client speaks wire 2.

    Attributes:
        socket: its socket.
        number: as above.
        acknowledgement: the payload of the server's op 22, once the client is ready.
        rest: bytes received after that.
    """

    def __init__(self, port: int, number: int, *, is_wire2: bool = False) -> None:
        self.acknowledgement = self.rest = b""
        self.number = number
        self._is_wire2 = is_wire2
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((f"127.0.0.{1 + number // CLIENTS_PER_ADDRESS}", 0))
        self._id = str(number)
        self._received = b""
        self._has_requested = False
        self._has_authenticated = False
        problem = self.socket.connect_ex(("127.0.0.1", port))
        if problem not in (0, errno.EINPROGRESS):
            raise Failed(f"client {number} cannot connect: {os.strerror(problem)}")

    def step(self) -> bool:
        """Go as far as possible without blocking; return whether the client is ready."""
        if not self._has_requested:
            self._has_requested = True
            self.socket.send(wire.REQUEST)
            return False
        received = self.socket.recv(4096)
        if not received:
            raise Failed(f"client {self._id}: expected to be accepted, was closed after {self._received!r}")
        self._received += received
        response, end, frames = self._received.partition(b"\r\n\r\n")
        if not end:
            return False
        if not response.startswith(b"HTTP/1.1 101"):
            raise Failed(f"expected status 101 from the server, got {response[:40]!r}")
        return self._greeted(frames)

    def _greeted(self, frames: bytes) -> bool:
        payloads, self.rest = wire.split(frames, _RECEIVED_BEFORE_READY)
        if payloads and not self._has_authenticated:
            self._has_authenticated = True
            self.socket.send(wire.authentication(self._id, is_wire2=self._is_wire2))
        if len(payloads) < _RECEIVED_BEFORE_READY:
            return False
        self.acknowledgement = payloads[-1]
        expected = wire.acknowledgement(self._id)
        if self.acknowledgement != expected and not self.acknowledgement.startswith(expected[:-1] + b',"x":'):
            raise Failed(f"client {self._id}: expected to be acknowledged, got {self.acknowledgement!r}")
        return True
