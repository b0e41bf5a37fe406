"""An honest client: it sends a request, waits for the answer, rests, and sends the next."""

import json
import socket
import ssl
import struct
import sys
import time
from typing import Any

from .. import wire

REST = 0.01
"""Seconds between an answer and the next request."""


class Neighbour:
    """The orders: each method is one, with its details as arguments."""

    def __init__(self) -> None:
        self._socket: socket.socket
        self._received = b""

    def connect(self, port: int, tls: bool) -> dict[str, Any]:
        """Connect and authenticate."""
        self._socket = connected(port, tls=tls)
        self._socket.sendall(wire.authentication("neighbour"))
        self._until(b'"op":22')
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        """Send requests, and return what they waited, in seconds."""
        waits: list[float] = []
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end or not waits:
            self._socket.sendall(wire.frame(b'{"op":0,"d":%d,"t":"PING"}' % len(waits)))
            self._until(b'"d":%d,"t":"PONG"' % len(waits))
            waits.append(time.monotonic() - began)
            time.sleep(REST)
        waits.sort()
        return {"median": waits[len(waits) // 2], "p99": waits[int(len(waits) * 0.99)], "longest": waits[-1]}

    def _until(self, text: bytes) -> None:
        while True:
            payloads, self._received = wire.split(self._received)
            if any(text in payload for payload in payloads):
                return
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the server has closed the neighbour")
            self._received += received


def connected(port: int, *, tls: bool, is_narrow: bool = False) -> socket.socket:
    """Connect a WebSocket, without authentication; closing it resets the connection.

    If it is narrow, the system buffers only some 100 KiB for it.
    """
    plain = socket.socket()
    if is_narrow:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", port))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened = _trusting().wrap_socket(plain) if tls else plain
    opened.sendall(wire.request())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += opened.recv(1)
    return opened


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def main() -> None:
    """Obey orders until standard input ends."""
    neighbour = Neighbour()
    for line in sys.stdin:
        details = json.loads(line)
        try:
            answer = getattr(neighbour, details.pop("order"))(**details)
        except OSError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
