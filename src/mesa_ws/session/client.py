"""A client's end of one connection."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from ..codec import Frame, InvalidFrame, decode_frame, encode_frame, encode_message
from ..errors import InvalidMessage
from ..message import Message, Op
from ..settings import Keepalive
from .events import Authenticated, Close, Output, Received, SendText
from .heartbeat import KeepaliveTimer

VERSION_OF_1X = "1.5.8"
"""What a client names where the server enforces equal versions."""

_LONGEST_MS = 86_400_000
"""A day: whatever is announced beyond counts as this, so that it can be waited for."""

_ANSWER = SendText(encode_frame(Op.HEARTBEAT_ACK, {}))


class Hello(NamedTuple):
    """What the server announced; durations in seconds, None where it said nothing."""

    heartbeat_interval: float | None
    reconnect_interval: float | None
    authentication_timeout: float | None
    rules: frozenset[str]


class Ignored(NamedTuple):
    """The server sent what is not a frame; worth a warning, not the connection."""

    why: str


ClientEvent = Hello | Authenticated | Received | Ignored | SendText


class ClientState(Enum):
    """What the client's session is."""

    CONNECTED = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


class ClientSession:
    """The protocol state of one connection, seen from the client. Not thread-safe."""

    __slots__ = ("_keepalive", "_suspended_at", "state")

    def __init__(self, keepalive: Keepalive, now: float) -> None:
        self.state = ClientState.CONNECTED
        self._suspended_at: float | None = None
        self._keepalive = KeepaliveTimer(keepalive, now) if keepalive.enabled else None

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
        match frame.op:
            case Op.HEARTBEAT:
                return [_ANSWER]
            case Op.HELLO:
                return _greeted(frame)
            case Op.AUTHENTICATED:
                self.state = ClientState.AUTHENTICATED
                return [Authenticated(frame.d)]
            case _:
                return [Received(frame.message())]

    def poll(self, now: float) -> list[Output]:
        """Do what is due at `now`: ask a silent server for a sign of life, or give it up."""
        if self._keepalive is None or self.deadline is None or now < self._keepalive.due:
            return []
        output = self._keepalive.tick(now)
        if isinstance(output, Close):
            self.close()
        return [output]

    def authenticate(self, data: Mapping[str, Any], *, should_sync: bool = True) -> SendText:
        """The frame that asks to be somebody.

        Raises:
            InvalidMessage: `data` is not a mapping, or JSON cannot hold it.
        """
        if not isinstance(data, Mapping):
            raise InvalidMessage(f"authentication data: expected a mapping, got {type(data).__name__}")
        return SendText(encode_frame(Op.AUTHENTICATE, {**data, "shouldSync": should_sync}))

    def send(self, message: Message) -> SendText:
        """The frame of an application's message.

        Raises:
            InvalidMessage: it cannot go on the wire.
        """
        return SendText(encode_message(message))

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


def _greeted(frame: Frame) -> list[ClientEvent]:
    hello = _hello(frame.d if isinstance(frame.d, dict) else {})
    if "enforce_equal_versions" not in hello.rules:
        return [hello]
    return [hello, SendText(encode_frame(Op.DISPATCH, {"v": VERSION_OF_1X}, "CLIENT_VERSION"))]


def _hello(data: dict[str, Any]) -> Hello:
    rules = data.get("rules")
    return Hello(
        _seconds(data.get("c_heartbeat_interval")),
        _seconds(data.get("c_reconnect_interval")),
        _seconds(data.get("c_authentication_timeout")),
        frozenset(rule for rule in (rules if isinstance(rules, list) else ()) if isinstance(rule, str)),
    )


def _seconds(milliseconds: object) -> float | None:
    """Read a duration; what is no number of more than 0 counts as not announced."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float) or milliseconds <= 0:
        return None
    return min(milliseconds, _LONGEST_MS) / 1000
