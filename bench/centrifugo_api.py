"""Calls of Centrifugo's HTTP API over one connection, with as little work for the caller as HTTP allows."""

import json
import socket
import time
from typing import Any

from .errors import Failed
from .load.dialects import PERSONAL

FRESH = 5.0
"""Seconds after which a connection is not trusted to be open."""

KEY = "only-for-benchmarks"
_LENGTH = b"Content-Length: "
_CHUNKED, _LAST_CHUNK = b"Transfer-Encoding: chunked", b"\r\n0\r\n\r\n"


def publication(channel: str, data: Any) -> dict[str, Any]:
    """Return a command that publishes."""
    return {"channel": channel, "data": data}


def channel_of(id: str) -> str:
    """Return the channel that belongs to a user."""
    return f"{PERSONAL}:#{id}"


def request(method: str, content: Any) -> bytes:
    """Return the bytes of a request."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return (
        b"POST /api/%s HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: %s\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (method.encode(), KEY.encode(), len(body), body)
    )


def first_response(received: bytes) -> tuple[bytes, bytes] | None:
    """Return the body of the first response and the bytes after it, or nothing while it is incomplete.

    A long body comes in chunks (RFC 9112 section 7.1), and is returned with their lengths.

    Raises:
        Failed: it reports an error.
    """
    head, end, rest = received.partition(b"\r\n\r\n")
    if not end:
        return None
    if not head.startswith(b"HTTP/1.1 200"):
        raise Failed(f"Centrifugo answered {head[:60]!r} {rest[:200]!r}")
    if _CHUNKED in head:
        size = rest.find(_LAST_CHUNK) + len(_LAST_CHUNK)
        is_complete = size >= len(_LAST_CHUNK)
    else:
        size = int(head[head.index(_LENGTH) + len(_LENGTH) :].partition(b"\r\n")[0])
        is_complete = len(rest) >= size
    if not is_complete:
        return None
    if b'"error"' in rest[:size]:
        raise Failed(f"Centrifugo answered {rest[:200]!r}")
    return rest[:size], rest[size:]


class Api:
    """A connection whose calls wait for their answer.

    Centrifugo closes it when it has not been used for ten seconds; the next call opens another one.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket = self._open()
        self._used_at = time.monotonic()

    def call(self, method: str, content: Any) -> bytes:
        """Call a method, and return the body of the answer."""
        if time.monotonic() - self._used_at > FRESH:
            self._socket.close()
            self._socket = self._open()
        self._socket.sendall(request(method, content))
        received = b""
        while (response := first_response(received)) is None:
            more = self._socket.recv(1 << 16)
            if not more:
                raise Failed("Centrifugo closed the connection of the API")
            received += more
        self._used_at = time.monotonic()
        return response[0]

    def _open(self) -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self._port), 5)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
