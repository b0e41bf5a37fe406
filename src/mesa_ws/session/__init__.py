"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""

from .client import ClientEvent, ClientSession, ClientState, Hello, Ignored
from .events import Authenticate, Authenticated, Close, Output, Received, SendPing, SendText, ServerEvent
from .fragments import DataFrame, Fragments, Violation
from .server import ServerSession, Terms
from .states import TRANSITIONS, State, Step, WrongState, after

__all__ = [
    "TRANSITIONS",
    "Authenticate",
    "Authenticated",
    "ClientEvent",
    "ClientSession",
    "ClientState",
    "Close",
    "DataFrame",
    "Fragments",
    "Hello",
    "Ignored",
    "Output",
    "Received",
    "SendPing",
    "SendText",
    "ServerEvent",
    "ServerSession",
    "State",
    "Step",
    "Terms",
    "Violation",
    "WrongState",
    "after",
]
