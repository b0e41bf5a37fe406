"""The bytes of every benchmark: the handshake, the authentication, and one message of 100 bytes."""

import json
from typing import Any

BODY = 100
"""Bytes of one message; WebSocket puts two bytes before each."""

FRAME = BODY + 2

TYPE = "NEW_MESSAGE"

REQUEST = (
    b"GET /ws HTTP/1.1\r\n"
    b"Host: 127.0.0.1\r\n"
    b"Connection: Upgrade\r\n"
    b"Upgrade: websocket\r\n"
    b"User-Agent: bench\r\n"
    b"Origin: http://127.0.0.1\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

HELLO = b'{"op":10,"d":{"c_authentication_timeout":10000,"rules":["sends_user_object"]}}'

_BEFORE_STAMP = '{"op":0,"d":{"at":"'
_STAMP = 20
STAMP = slice(2 + len(_BEFORE_STAMP), 2 + len(_BEFORE_STAMP) + _STAMP)
"""Where in a frame the message says when it was sent."""


def stamp(nanoseconds: int) -> str:
    """Write a time so that every message has the same length."""
    return f"{nanoseconds:0{_STAMP}}"


def data(at: str = stamp(0)) -> dict[str, str]:
    """The data of a message, padded so that its body has `BODY` bytes."""
    return {"at": at, "content": _PADDING}


def body(at: str = stamp(0)) -> bytes:
    """The message as every peer has to write it."""
    return _encode({"op": 0, "d": data(at), "t": TYPE})


def acknowledgement(id: str) -> bytes:
    """The answer to a client that has authenticated."""
    return _encode({"op": 22, "d": {"id": id}})


def authentication(id: str) -> bytes:
    """A client's frame that says who it is; its mask of zeros leaves the text as it is."""
    payload = _encode({"op": 2, "d": {"id": id}})
    return bytes((0x81, 0x80 | len(payload), 0, 0, 0, 0)) + payload


def count_frames(received: bytes) -> int:
    """Count the whole frames; all have fewer than 126 bytes of payload."""
    count = start = 0
    while len(received) >= start + 2 and len(received) >= (end := start + 2 + received[start + 1]):
        count, start = count + 1, end
    return count


def _encode(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode()


_PADDING = ""
_PADDING = "x" * (BODY - len(body()))
