"""A client's end of one connection."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple, TypeGuard

from ..errors import InvalidMessage, Unsupported
from ..messages.frames import Frame, InvalidFrame, decode_frame, encode_frame, encode_message, extended
from ..messages.message import Message, Op
from ..messages.receipt import Position
from ..settings import Keepalive
from .correlation import ReplyReceived, RequestReceived, asking, read_correlation
from .events import Authenticated, Close, Output, SendText
from .positions import NOWHERE, Arrived, Positions, Tracking
from .timers import KeepaliveTimer

VERSION_OF_1X = "1.5.8"
"""What a client names where the server enforces equal versions."""

WIRE = 2
"""The wire that a client speaks with a server that speaks this one, or a later one."""

_LONGEST = 86_400
"""Seconds of a day: whatever is announced beyond counts as this, so that it can be waited for."""

_ANSWER = SendText(encode_frame(Op.HEARTBEAT_ACK, {}))


class Hello(NamedTuple):
    """What the server announced; durations in seconds, None where it said nothing.

    Attributes:
        heartbeat_interval: between two heartbeats.
        reconnect_interval: to wait before coming back.
        authentication_timeout: to have authenticated in.
        rules: the rules that hold.
        version: the newest wire that it speaks; 1 if it named none.
    """

    heartbeat_interval: float | None
    reconnect_interval: float | None
    authentication_timeout: float | None
    rules: frozenset[str]
    version: int = 1


class Ignored(NamedTuple):
    """The server sent what is not a frame; worth a warning, not the connection."""

    why: str


class AckDue(NamedTuple):
    """Acknowledge what was handled, if anything is new, before the frame that follows is sent."""


class Leave(NamedTuple):
    """The server is about to go: handle what came, close the connection, and come back.

    Attributes:
        after: seconds to stay away at least.
    """

    after: float


ClientEvent = (
    Hello | Authenticated | Arrived | RequestReceived | ReplyReceived | AckDue | Leave | Ignored | SendText
)


class ClientState(Enum):
    """What the client's session is."""

    CONNECTED = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


class ClientProtocol:
    """The protocol state of one connection, seen from the client. Not thread-safe.

    Speaks wire 2 with servers that do, and wire 1 with the others.

    Args:
        keepalive: how to find out that the server is gone.
        now: when the connection was opened.
        positions: up to where messages were received on connections before.
    """

    __slots__ = ("_asked", "_keepalive", "_suspended_at", "_tracking", "_version", "state")

    def __init__(self, keepalive: Keepalive, now: float, positions: Positions = NOWHERE) -> None:
        self.state = ClientState.CONNECTED
        self._suspended_at: float | None = None
        self._keepalive = KeepaliveTimer(keepalive, now) if keepalive.enabled else None
        self._tracking = Tracking(positions)
        self._version = 1
        self._asked = NOWHERE

    @property
    def positions(self) -> Positions:
        """Up to where messages were received; what `Arrived` carried last."""
        return self._tracking.positions

    @property
    def deadline(self) -> float | None:
        """When `poll` has something to do, in the time of `now`; None for never."""
        if self._keepalive is None or self._suspended_at is not None or self.state is ClientState.CLOSED:
            return None
        return self._keepalive.due

    def heard(self, now: float) -> None:
        """Count a control frame or a part of a message as a sign of life."""
        if self._keepalive is not None:
            self._keepalive.seen(now)

    def receive(self, payload: bytes, now: float) -> list[ClientEvent]:
        """Take one message from the server; `SendText` among the events is to be sent."""
        if self.state is ClientState.CLOSED:
            return []
        self.heard(now)
        try:
            frame = decode_frame(payload)
        except InvalidFrame as error:
            return [Ignored(str(error))]
        return self._take(frame)

    def poll(self, now: float) -> list[Output]:
        """Do what is due at `now`: ask a silent server for a sign of life, or give it up."""
        if self._keepalive is None or self.deadline is None or now < self._keepalive.due:
            return []
        output = self._keepalive.tick(now)
        if isinstance(output, Close):
            self.close()
        return [output]

    def authenticate(
        self, data: Mapping[str, Any], *, should_sync: bool = True, resume: Positions = NOWHERE
    ) -> SendText:
        """The frame that asks to be somebody, and for messages from where the client is.

        Args:
            data: for the authenticator.
            should_sync: False for no stored messages, and so to go on from no position.
            resume: up to where the application has handled messages.

        Raises:
            InvalidMessage: `data` is not a mapping, or JSON cannot hold it.
        """
        if not isinstance(data, Mapping):
            raise InvalidMessage(f"authentication data: expected a mapping, got {type(data).__name__}")
        question = encode_frame(Op.AUTHENTICATE, {**data, "shouldSync": should_sync})
        if self._version < WIRE:
            return SendText(question)
        self._asked = resume if should_sync else NOWHERE
        members = self._asked.members()
        return SendText(extended(question, {"v": WIRE, "resume": members} if members else {"v": WIRE}))

    def acknowledge(self, position: Position) -> SendText | None:
        """The frame that says that everything up to `position` was handled; None if it is no news.

        None also on wire 1, and for a position that is not in the outbox and the epoch that this
        connection is in.
        """
        if not self._tracking.acknowledges(position):
            return None
        return SendText(encode_frame(Op.ACK, {"e": position.epoch, "s": position.sequence}))

    def send(self, message: Message) -> SendText:
        """The frame of an application's message.

        Raises:
            InvalidMessage: it cannot go on the wire.
        """
        return SendText(encode_message(message))

    def request(self, body: bytes, request: str) -> SendText:
        """The frame of a request.

        Args:
            body: the encoded message.
            request: names it on this connection.

        Raises:
            Unsupported: the server speaks wire 1.
        """
        if self._version < WIRE:
            raise Unsupported(
                "request: expected a server that speaks wire 2, got one of wire 1, which knows no "
                "requests; send a message instead"
            )
        return SendText(asking(body, request))

    def suspend(self, now: float) -> None:
        """We stop reading the server, so its silence is ours: no deadline runs."""
        self._suspended_at = now

    def resume(self, now: float) -> None:
        """We read again; silence is counted from now on."""
        if self._suspended_at is not None:
            self._suspended_at = None
            self.heard(now)

    def close(self) -> None:
        """The connection has ended."""
        self.state = ClientState.CLOSED

    def _take(self, frame: Frame) -> list[ClientEvent]:
        match frame.op:
            case Op.HEARTBEAT:
                return [AckDue(), _ANSWER] if self._tracking.is_wire2 else [_ANSWER]
            case Op.HELLO:
                return self._greeted(frame)
            case Op.AUTHENTICATED:
                return self._accepted(frame)
            case Op.RECONNECT if self._tracking.is_wire2:
                return [_leave(frame.d)]
            case Op.RESYNC if self._tracking.is_wire2:
                return self._resynced(frame)
            case _:
                return self._arrived(frame)

    def _arrived(self, frame: Frame) -> list[ClientEvent]:
        match read_correlation(frame):
            case ReplyReceived() as replied:
                return [replied]
            case RequestReceived() as asked if self._tracking.is_wire2:
                return [asked]
        return [*self._tracking.arrived(frame)]

    def _greeted(self, frame: Frame) -> list[ClientEvent]:
        hello = _hello(frame.d if isinstance(frame.d, dict) else {})
        self._version = hello.version
        if "enforce_equal_versions" not in hello.rules:
            return [hello]
        return [hello, SendText(encode_frame(Op.DISPATCH, {"v": VERSION_OF_1X}, "CLIENT_VERSION"))]

    def _accepted(self, frame: Frame) -> list[ClientEvent]:
        self.state = ClientState.AUTHENTICATED
        return [Authenticated(frame.d), *self._tracking.accepted(frame.x, self._asked)]

    def _resynced(self, frame: Frame) -> list[ClientEvent]:
        arrived = self._tracking.resynced(frame.d)
        if arrived is None:
            return [Ignored("op 9 names no position that this connection follows")]
        return [*arrived]


def _hello(data: dict[str, Any]) -> Hello:
    rules, version = data.get("rules"), data.get("v")
    return Hello(
        _seconds(data.get("c_heartbeat_interval")),
        _seconds(data.get("c_reconnect_interval")),
        _seconds(data.get("c_authentication_timeout")),
        frozenset(rule for rule in (rules if isinstance(rules, list) else ()) if isinstance(rule, str)),
        version if type(version) is int and version > 0 else 1,
    )


def _seconds(milliseconds: object) -> float | None:
    """Read a duration; what is no number of more than 0 counts as not announced."""
    if not _is_number(milliseconds) or milliseconds <= 0:
        return None
    return min(milliseconds, _LONGEST * 1000) / 1000


def _leave(data: object) -> ClientEvent:
    after = data.get("after") if isinstance(data, dict) else None
    if _is_number(after) and after >= 0:
        return Leave(float(min(after, _LONGEST)))
    return Ignored("op 7 names no time to come back after")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
