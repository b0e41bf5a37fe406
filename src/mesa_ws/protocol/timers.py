"""Signs of life of a connection: heartbeats (op 1, answered by op 11), keepalive Pings, probes.

All are driven by `now` and never look at a clock. A heartbeat ticks every `interval` from the
connection on. The first tick is empty; at each later one, an answer since the last tick starts
the count again, and silence counts one try. After `max_attempts` tries the next tick closes.

A *probe* is an op 1: a client of 1.x answers each with op 11, in order, after it has handled what
came before. So the n-th op 11 of a connection answers its n-th op 1, heartbeats included, and the
number n is the probe's *token*. Where Pings are the probes, the token travels in their payload,
because a peer need only answer the last of several Pings (RFC 6455 section 5.5.3).

An op 11 without a probe was meant for another connection of the same client. From then on answers
cannot be told apart, and none is trusted.
"""

from ..close import CloseCode
from ..messages.frames import encode_frame
from ..messages.message import Op
from ..settings import Heartbeat, Keepalive
from .events import Close, Output, SendPing, SendText

_EMPTY = SendText(encode_frame(Op.HEARTBEAT, {}))


class HeartbeatTimer:
    """Sends a heartbeat every interval, and counts those without an answer."""

    __slots__ = ("_answered", "_settings", "_tries", "due")

    def __init__(self, settings: Heartbeat, now: float) -> None:
        self._settings = settings
        self._answered = True
        self._tries = 0
        self.due = now + settings.interval

    def answered(self) -> None:
        """Note that the peer sent op 11; it counts at the next tick."""
        self._answered = True

    def tick(self, now: float) -> Output:
        """Do what is due: send a heartbeat, or give up."""
        self.due = now + self._settings.interval
        answered, self._answered = self._answered, False
        if answered:
            self._tries = 0
            return _EMPTY
        self._tries += 1
        if self._tries > self._settings.max_attempts:
            return Close(CloseCode.NO_STATUS, f"{self._tries} heartbeats unanswered")
        return SendText(
            encode_frame(Op.HEARTBEAT, {"tries": self._tries, "max": self._settings.max_attempts})
        )

    def postpone(self, seconds: float) -> None:
        """Exclude time in which the peer could not be heard."""
        self.due += seconds


class KeepaliveTimer:
    """Pings a silent peer, and gives up if no sign of life follows.

    Attributes:
        heard_at: time of the last sign of life: an inbound frame, or that reading goes on, for frames that
            waited. The owner sets it.
    """

    __slots__ = ("_pinged_at", "_settings", "heard_at")

    def __init__(self, settings: Keepalive, now: float) -> None:
        self._settings = settings
        self._pinged_at = float("-inf")
        self.heard_at = now

    @property
    def due(self) -> float:
        """When `tick` has something to do."""
        if self._pinged_at > self.heard_at:
            return self._pinged_at + self._settings.timeout
        return self.heard_at + self._settings.interval

    def tick(self, now: float) -> Output:
        """Do what is due: send a Ping, or give up. The wait starts with the Ping, however late it is sent."""
        if self._pinged_at > self.heard_at:
            return Close(CloseCode.NO_KEEPALIVE, f"silent for {self._settings.timeout:g} s after a Ping")
        self._pinged_at = now
        return SendPing()


PROBE_INTERVAL = 1.0
"""Seconds from one probe to the next."""


class ProbeCounter:
    """Counts the probes that one connection was sent and has answered.

    Attributes:
        are_trusted: whether answers acknowledge anything.
    """

    __slots__ = ("_answered", "_asked", "_asked_at", "are_trusted")

    def __init__(self) -> None:
        self._asked = 0
        self._answered = 0
        self._asked_at = float("-inf")
        self.are_trusted = True

    def may_ask(self, now: float) -> bool:
        """Whether a probe may be sent: none is open, and the last one was a while ago."""
        is_open = self._answered < self._asked
        return self.are_trusted and not is_open and now - self._asked_at >= PROBE_INTERVAL

    def ask(self, now: float) -> int:
        """Count a probe, and return its token."""
        self._asked += 1
        self._asked_at = now
        return self._asked

    def answered(self) -> int | None:
        """Count an op 11, and return the token that it answers; None if no probe was open."""
        if self._answered == self._asked:
            self.are_trusted = False
            return None
        self._answered += 1
        return self._answered

    def ponged(self, payload: bytes) -> int | None:
        """Read a Pong, and return the token that it answers; None if it answers no open probe."""
        if not payload.isdigit() or len(payload) > len(str(self._asked)):
            return None
        token = int(payload)
        if not self._answered < token <= self._asked:
            return None
        self._answered = token
        return token
