"""Calls of Centrifugo's HTTP API over one connection, with as little work for the caller as HTTP allows."""

import json
import socket
from typing import Any

from .errors import Failed
from .load.dialects import PERSONAL

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
    """A connection whose calls wait for their answer."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def call(self, method: str, content: Any) -> bytes:
        """Call a method, and return the body of the answer."""
        self._socket.sendall(request(method, content))
        while (response := first_response(self._unread)) is None:
            received = self._socket.recv(1 << 16)
            if not received:
                raise Failed("Centrifugo closed the connection of the API")
            self._unread += received
        body, self._unread = response
        return body
