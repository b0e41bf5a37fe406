"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""

from .client import AckDue, AckTimer, ClientEvent, ClientProtocol, ClientState, Hello, Ignored, Leave
from .correlation import ReplyReceived, RequestReceived, answering, asking, failing
from .cursor import BroadcastCursor, Cursor, Offered, OutboxCursor, OutOfTurn, Progress
from .events import (
    Acknowledged,
    Authenticate,
    Authenticated,
    Close,
    Output,
    ProbeAnswered,
    Received,
    SendPing,
    SendText,
    ServerEvent,
    UnexpectedAnswer,
)
from .fragments import DataFrame, Fragments, Violation
from .positions import NOWHERE, Arrived, Forked, Lost, Moved, Positions, Reset, Tracking
from .resume import UNKNOWN, ResumeState, Summary, SyncOptions, read_position, reconnect, resync, welcome
from .server import (
    TRANSITIONS,
    ServerProtocol,
    State,
    Terms,
    Transition,
    WrongState,
    after,
)

__all__ = [
    "NOWHERE",
    "TRANSITIONS",
    "UNKNOWN",
    "AckDue",
    "AckTimer",
    "Acknowledged",
    "Arrived",
    "Authenticate",
    "Authenticated",
    "BroadcastCursor",
    "ClientEvent",
    "ClientProtocol",
    "ClientState",
    "Close",
    "Cursor",
    "DataFrame",
    "Forked",
    "Fragments",
    "Hello",
    "Ignored",
    "Leave",
    "Lost",
    "Moved",
    "Offered",
    "OutOfTurn",
    "OutboxCursor",
    "Output",
    "Positions",
    "ProbeAnswered",
    "Progress",
    "Received",
    "ReplyReceived",
    "RequestReceived",
    "Reset",
    "ResumeState",
    "SendPing",
    "SendText",
    "ServerEvent",
    "ServerProtocol",
    "State",
    "Summary",
    "SyncOptions",
    "Terms",
    "Tracking",
    "Transition",
    "UnexpectedAnswer",
    "Violation",
    "WrongState",
    "after",
    "answering",
    "asking",
    "failing",
    "read_position",
    "reconnect",
    "resync",
    "welcome",
]
