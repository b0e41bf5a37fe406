"""Bytes on the wire in every benchmark: handshake, authentication, and a message of 100 bytes."""

import json
import sys
from typing import Any

BODY = 100
"""Bytes of one message; WebSocket puts two bytes before each."""

FRAME = BODY + 2

TYPE = "NEW_MESSAGE"

_REQUEST = (
    b"GET %s HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\n"
    b"Connection: Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"User-Agent: bench\r\n"
    b"Origin: http://127.0.0.1\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

HELLO = b'{"op":10,"d":{"c_authentication_timeout":10000,"rules":["sends_user_object"],"v":2}}'

_SHORT = 125
"""Longest payload whose length fits in one byte (RFC 6455 section 5.2)."""

_STAMP = 20
"""Digits of a time."""

MARK = b'xxxxxxxx"}'
"""End of the data of a message, which stands nowhere else: clients of any server count messages by it."""


def request(path: str = "/ws") -> bytes:
    """Return a client's request to open a WebSocket."""
    return _REQUEST % path.encode()


def stamp(nanoseconds: int) -> str:
    """Return a time with a fixed number of digits, so that every message has the same length."""
    return f"{nanoseconds:0{_STAMP}}"


def data(at: str = stamp(0)) -> dict[str, str]:
    """Return the data of a message, padded so that its body has `BODY` bytes."""
    return {"at": at, "content": _PADDING}


def body(at: str = stamp(0)) -> bytes:
    """Return the body of a message, which is the same for every peer."""
    return _encode({"op": 0, "d": data(at), "t": TYPE})


def acknowledgement(id: str) -> bytes:
    """Return the server's answer to an authentication."""
    return _encode({"op": 22, "d": {"id": id}})


def authentication(id: str, *, is_wire2: bool = False) -> bytes:
    """Return a client's frame that requests authentication."""
    return _from_client({"op": 2, "d": {"id": id}, **({"x": {"v": 2}} if is_wire2 else {})})


def message() -> bytes:
    """Return a client's frame with a message for the application."""
    return _from_client({"op": 0, "d": data(), "t": TYPE})


def answer() -> bytes:
    """Return a client's answer to a heartbeat, which acknowledges all messages before it."""
    return _from_client({"op": 11, "d": {}})


def acknowledge_position(epoch: str, sequence: int) -> bytes:
    """Return a client's frame that acknowledges, on wire 2, everything up to a position."""
    return _from_client({"op": 3, "d": {"e": epoch, "s": sequence}})


def split(received: bytes, at_most: int = sys.maxsize) -> tuple[list[bytes], bytes]:
    """Return the payloads of the complete frames, each below 64 KiB, and the remaining bytes."""
    payloads: list[bytes] = []
    start = 0
    while len(payloads) < at_most and len(received) >= start + 4:
        size, head = received[start + 1], 2
        if size > _SHORT:
            size, head = int.from_bytes(received[start + 2 : start + 4], "big"), 4
        end = start + head + size
        if len(received) < end:
            break
        payloads.append(received[start + head : end])
        start = end
    return payloads, received[start:]


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """Return a client's frame; a mask of zeros leaves the payload unchanged."""
    size = len(payload)
    if size <= _SHORT:
        length = bytes([0x80 | size])
    elif size < 1 << 16:
        length = b"\xfe" + size.to_bytes(2)
    else:
        length = b"\xff" + size.to_bytes(8)
    return bytes([fin << 7 | opcode]) + length + bytes(4) + payload


def _from_client(content: dict[str, Any]) -> bytes:
    return frame(_encode(content))


def _encode(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


_PADDING = ""
_PADDING = "x" * (BODY - len(body()))
