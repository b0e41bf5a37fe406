"""Opening of one client: socket, WebSocket handshake, and authentication."""

import errno
import os
import socket
import struct

from .. import wire
from ..errors import Failed
from .dialects import DIALECTS, Conversation, Dialect

CLIENTS_PER_ADDRESS = 10_000
"""Clients of one loopback address; together with the port it must be unique."""

_BIND_ADDRESS_NO_PORT = 24  # Linux, ip(7): choose the port at connect, for this destination alone
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_READ = 1 << 16


class Handshake:
    """Drives one non-blocking socket until the client is ready.

    Args:
        port: where the server listens.
        number: the client's id.
        dialect: what client and server speak.

    Attributes:
        socket: its socket.
        number: as above.
        acknowledgement: the payload that made the client ready.
        rest: bytes received after that.
    """

    def __init__(self, port: int, number: int, dialect: Dialect = DIALECTS["mesa"]) -> None:
        self.acknowledgement = self.rest = b""
        self.number = number
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        self.socket.bind((f"127.0.0.{1 + number // CLIENTS_PER_ADDRESS}", 0))
        self._dialect = dialect
        self._received = b""
        self._has_requested = False
        self._conversation: Conversation | None = None
        problem = self.socket.connect_ex(("127.0.0.1", port))
        if problem not in (0, errno.EINPROGRESS):
            raise Failed(f"client {number} cannot connect: {os.strerror(problem)}")

    def step(self) -> bool:
        """Go as far as possible without blocking; return whether the client is ready."""
        if not self._has_requested:
            self._has_requested = True
            self.socket.send(wire.request(self._dialect.path))
            return False
        received = self.socket.recv(_READ)
        if not received:
            raise Failed(
                f"client {self.number}: expected to be accepted, was closed after {self._received!r}"
            )
        self._received += received
        if self._conversation is None:
            response, end, frames = self._received.partition(b"\r\n\r\n")
            if not end:
                return False
            if not response.startswith(b"HTTP/1.1 101"):
                raise Failed(f"expected status 101 from the server, got {response[:40]!r}")
            self._received, self._conversation = frames, self._dialect.converse(str(self.number))
            self._say(next(self._conversation))
        return self._listen(self._conversation)

    def _listen(self, conversation: Conversation) -> bool:
        while True:
            payloads, self._received = wire.split(self._received, at_most=1)
            if not payloads:
                return False
            try:
                self._say(conversation.send(payloads[0]))
            except StopIteration:
                self.acknowledgement, self.rest = payloads[0], self._received
                return True

    def _say(self, frame: bytes) -> None:
        if frame:
            self.socket.send(frame)
