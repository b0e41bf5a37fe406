"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""

from .client import ClientSession, Hello
from .events import Authenticate, Authenticated, Close, Received, SendPing, SendText
from .fragments import Fragments, Violation
from .server import ServerSession, Terms
from .states import State

__all__ = [
    "Authenticate",
    "Authenticated",
    "ClientSession",
    "Close",
    "Fragments",
    "Hello",
    "Received",
    "SendPing",
    "SendText",
    "ServerSession",
    "State",
    "Terms",
    "Violation",
]
