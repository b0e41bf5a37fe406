"""What clients of each server say until they are ready: a request, then a conversation.

A conversation yields the frame to send, or nothing, and gets the payload that the server sends next. It ends
with the payload that makes the client ready.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, NamedTuple

from .. import wire
from ..errors import Failed

Conversation = Generator[bytes, bytes, None]

CENTRIFUGO_SECRET = "only for benchmarks"
EVERYBODY = "everybody"
PERSONAL = "personal"
"""Centrifugo's namespace of channels that belong to one user each."""


class Dialect(NamedTuple):
    """How clients of a server begin.

    Attributes:
        path: of the request.
        converse: begins the conversation of the client with this id.
    """

    path: str
    converse: Callable[[str], Conversation]


def mesa(id: str, *, is_wire2: bool = False) -> Conversation:
    """HELLO, then the client authenticates."""
    yield b""
    reply = yield wire.authentication(id, is_wire2=is_wire2)
    expected = wire.acknowledgement(id)
    if reply != expected and not reply.startswith(expected[:-1] + b',"x":'):
        raise Failed(f"client {id}: expected to be acknowledged, got {reply!r}")


def centrifugo(id: str, position: Mapping[str, Any] | None = None) -> Conversation:
    """The client connects with a token, and is subscribed to its own channel and that of all.

    Args:
        id: the client's user.
        position: `epoch` and `offset` from which messages of its own channel are recovered.
    """
    connect: dict[str, Any] = {"token": _token({"sub": id, "channels": [EVERYBODY]})}
    if position:
        connect["subs"] = {f"{PERSONAL}:#{id}": {"recover": True, **position}}
    reply = yield wire.frame(json.dumps({"id": 1, "connect": connect}, separators=(",", ":")).encode())
    subscribed = json.loads(reply.partition(b"\n")[0]).get("connect", {}).get("subs", {})
    if set(subscribed) != {EVERYBODY, f"{PERSONAL}:#{id}"}:
        raise Failed(f"client {id}: expected to be subscribed to its channels, got {reply!r}")


def socket_io(id: str) -> Conversation:
    """The session of Engine.IO, then the client connects to the namespace `/`."""
    session = yield b""
    reply = yield wire.frame(b'40{"id":"%s"}' % id.encode())
    if not session.startswith(b"0{") or not reply.startswith(b"40{"):
        raise Failed(f"client {id}: expected to be connected, got {session!r} and {reply!r}")


DIALECTS: Mapping[str, Dialect] = {
    "mesa": Dialect("/ws", mesa),
    "mesa-1": Dialect("/ws", mesa),
    "mesa-2": Dialect("/ws", partial(mesa, is_wire2=True)),
    "centrifugo": Dialect("/connection/websocket", centrifugo),
    "socket.io": Dialect("/socket.io/?EIO=4&transport=websocket", socket_io),
}
"""Clients that speak `mesa-1` and `mesa-2` acknowledge what they receive; others count it alone."""


def _token(claims: Mapping[str, Any]) -> str:
    """Return a JSON Web Token, signed with HMAC (RFC 7515)."""
    signed = ".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    signature = hmac.digest(CENTRIFUGO_SECRET.encode(), signed.encode(), hashlib.sha256)
    return f"{signed}.{_base64(signature)}"


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
