"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""

from .client import ClientEvent, ClientSession, ClientState, Hello, Ignored
from .cursor import Broadcasts, Cursor, Offered, OutOfTurn, Progress
from .events import (
    Acknowledged,
    Answered,
    Authenticate,
    Authenticated,
    Close,
    Output,
    Received,
    SendPing,
    SendText,
    ServerEvent,
    Strayed,
)
from .fragments import DataFrame, Fragments, Violation
from .replay import Replay
from .server import ServerSession, Terms
from .standing import Standing, Summary, reconnect, resync, welcome
from .states import TRANSITIONS, State, Step, WrongState, after
from .wish import UNKNOWN, Wish, read_position

__all__ = [
    "TRANSITIONS",
    "UNKNOWN",
    "Acknowledged",
    "Answered",
    "Authenticate",
    "Authenticated",
    "Broadcasts",
    "ClientEvent",
    "ClientSession",
    "ClientState",
    "Close",
    "Cursor",
    "DataFrame",
    "Fragments",
    "Hello",
    "Ignored",
    "Offered",
    "OutOfTurn",
    "Output",
    "Progress",
    "Received",
    "Replay",
    "SendPing",
    "SendText",
    "ServerEvent",
    "ServerSession",
    "Standing",
    "State",
    "Step",
    "Strayed",
    "Summary",
    "Terms",
    "Violation",
    "Wish",
    "WrongState",
    "after",
    "read_position",
    "reconnect",
    "resync",
    "welcome",
]
