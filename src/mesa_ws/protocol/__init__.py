"""The protocol of one connection without I/O, clock or asyncio, for both ends.

Bytes and `now` go in; events, bytes to send and the next deadline come out. The rules are those
of `spec/protocol.md`, and `spec/vectors/` drives the tests.
"""

from .client import AckDue, ClientEvent, ClientSession, ClientState, Hello, Ignored, Leave
from .correlation import Asked, Replied, answering, asking, failing
from .cursor import Broadcasts, Cursor, Offered, OutOfTurn, Progress
from .delivery import Replay
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
from .login import UNKNOWN, Wish, read_position
from .positions import NOWHERE, Arrived, Forked, Lost, Moved, Positions, Reset, Tracking
from .resume import Standing, Summary, reconnect, resync, welcome
from .server import ServerSession, Terms
from .states import TRANSITIONS, State, Step, WrongState, after
from .timers import Pace

__all__ = [
    "NOWHERE",
    "TRANSITIONS",
    "UNKNOWN",
    "AckDue",
    "Acknowledged",
    "Answered",
    "Arrived",
    "Asked",
    "Authenticate",
    "Authenticated",
    "Broadcasts",
    "ClientEvent",
    "ClientSession",
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
    "Output",
    "Pace",
    "Positions",
    "Progress",
    "Received",
    "Replay",
    "Replied",
    "Reset",
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
    "Tracking",
    "Violation",
    "Wish",
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
