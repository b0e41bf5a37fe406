"""The client's end of the protocol."""

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
"""The version that a client names where the server enforces equal versions."""

WIRE = 2
"""The wire that a client speaks with a server of this wire or a later one."""

_LONGEST = 86_400
"""Seconds of a day: a longer time that the server announces counts as this, so that it can be waited for."""

_ANSWER = SendText(encode_frame(Op.HEARTBEAT_ACK, {}))


class Hello(NamedTuple):
    """The server's HELLO; durations in seconds, None where it announced none.

    Attributes:
        heartbeat_interval: time between two heartbeats.
        reconnect_interval: time to wait before coming back.
        authentication_timeout: time that the client has to authenticate.
        rules: the rules that the server enforces.
        version: the newest wire that the server speaks; 1 if it named none.
    """

    heartbeat_interval: float | None
    reconnect_interval: float | None
    authentication_timeout: float | None
    rules: frozenset[str]
    version: int = 1


class Ignored(NamedTuple):
    """The server sent something that is not a frame; log a warning, and keep the connection."""

    why: str


class AckDue(NamedTuple):
    """Acknowledge what was handled since the last acknowledgement, before the next frame is sent."""


class Leave(NamedTuple):
    """The server is about to stop: handle what came, close the connection, and come back.

    Attributes:
        after: seconds to stay away at least.
    """

    after: float


ClientEvent = (
    Hello | Authenticated | Arrived | RequestReceived | ReplyReceived | AckDue | Leave | Ignored | SendText
)


class ClientState(Enum):
    """States of the client's protocol."""

    CONNECTED = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


class ClientProtocol:
    """The protocol state of one connection, seen from the client. Not thread-safe.

    Speaks wire 2 with servers that do, and wire 1 with the others.

    Args:
        keepalive: how to notice that the server is gone.
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
        """Positions up to which messages were received; the last ones that `Arrived` carried."""
        return self._tracking.positions

    @property
    def deadline(self) -> float | None:
        """Time at which `poll` has something to do, on the clock of `now`; None for never."""
        if self._keepalive is None or self._suspended_at is not None or self.state is ClientState.CLOSED:
            return None
        return self._keepalive.due

    def heard(self, now: float) -> None:
        """Count a control frame or a part of a message as a sign of life."""
        if self._keepalive is not None:
            self._keepalive.heard_at = now

    def receive(self, payload: bytes, now: float) -> list[ClientEvent]:
        """Handle one message from the server; send each `SendText` among the events."""
        if self.state is ClientState.CLOSED:
            return []
        self.heard(now)
        try:
            frame = decode_frame(payload)
        except InvalidFrame as error:
            return [Ignored(str(error))]
        return self._take(frame)

    def poll(self, now: float) -> list[Output]:
        """Do what is due at `now`: send a Ping to a silent server, or give up the connection."""
        if self._keepalive is None or self.deadline is None or now < self._keepalive.due:
            return []
        output = self._keepalive.tick(now)
        if isinstance(output, Close):
            self.close()
        return [output]

    def authenticate(
        self, data: Mapping[str, Any], *, should_sync: bool = True, resume: Positions = NOWHERE
    ) -> SendText:
        """Return the frame that requests authentication, and the messages after the client's positions.

        Args:
            data: credentials for the authenticator.
            should_sync: False for no stored messages, and so without positions.
            resume: positions up to which the application has handled messages.

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
        """Return the frame that acknowledges everything up to `position`; None if that is not new.

        None also on wire 1, and for a position of another outbox or epoch than this connection's.
        """
        if not self._tracking.acknowledges(position):
            return None
        return SendText(encode_frame(Op.ACK, {"e": position.epoch, "s": position.sequence}))

    def send(self, message: Message) -> SendText:
        """Return the frame of an application's message.

        Raises:
            InvalidMessage: it cannot go on the wire.
        """
        return SendText(encode_message(message))

    def request(self, body: bytes, request: str) -> SendText:
        """Return the frame of a request.

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
        """Stop all deadlines, because the client stops reading and cannot hear the server."""
        self._suspended_at = now

    def resume(self, now: float) -> None:
        """Run the deadlines again; silence counts from now on."""
        if self._suspended_at is not None:
            self._suspended_at = None
            self.heard(now)

    def close(self) -> None:
        """Note that the connection has ended."""
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
        return [Authenticated(frame.d, _expires(frame.x)), *self._tracking.accepted(frame.x, self._asked)]

    def _resynced(self, frame: Frame) -> list[ClientEvent]:
        arrived = self._tracking.resynced(frame.d)
        if arrived is None:
            return [Ignored("op 9 names a position that this connection does not follow")]
        return [*arrived]


MAX_WAIT = 1.0
"""Seconds from the first message that was handled to the acknowledgement."""

MAX_MESSAGES = 64
"""Handled messages after which an acknowledgement is due at once."""


class AckTimer:
    """Tells when the next acknowledgement is due (spec section 17.6).

    Attributes:
        due: when it is due; None if there is nothing to acknowledge.
    """

    __slots__ = ("_count", "due")

    def __init__(self) -> None:
        self._count = 0
        self.due: float | None = None

    def count(self, now: float) -> None:
        """Count one handled message."""
        self._count += 1
        if self._count >= MAX_MESSAGES:
            self.due = now
        elif self.due is None:
            self.due = now + MAX_WAIT

    def acknowledged(self) -> None:
        """Start over, because everything counted so far is being acknowledged."""
        self._count, self.due = 0, None


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
    """Read a duration; anything but a number above 0 counts as not announced."""
    if not _is_number(milliseconds) or milliseconds <= 0:
        return None
    return min(milliseconds, _LONGEST * 1000) / 1000


def _expires(extension: object) -> float | None:
    seconds = extension.get("expires") if isinstance(extension, dict) else None
    return float(min(seconds, _LONGEST)) if _is_number(seconds) and seconds >= 0 else None


def _leave(data: object) -> ClientEvent:
    after = data.get("after") if isinstance(data, dict) else None
    if _is_number(after) and after >= 0:
        return Leave(float(min(after, _LONGEST)))
    return Ignored("op 7 has no number of seconds in 'after'")


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
