"""Heartbeats (op 1, answered by op 11) and keepalive Pings: who is still there.

Both are driven by `now` and never look at a clock. A heartbeat ticks every `interval` from the
connection on. The first tick is empty; at each later one, an answer since the last tick starts
the count again, and silence counts one try. After `max_attempts` tries the next tick closes.
"""

from ..close import CloseCode
from ..messages.frames import encode_frame
from ..messages.message import Op
from ..settings import Heartbeat, Keepalive
from .events import Close, Output, SendPing, SendText

_EMPTY = SendText(encode_frame(Op.HEARTBEAT, {}))


class HeartbeatTimer:
    """Asks the peer every interval and counts what stays unanswered."""

    __slots__ = ("_answered", "_settings", "_tries", "due")

    def __init__(self, settings: Heartbeat, now: float) -> None:
        self._settings = settings
        self._answered = True
        self._tries = 0
        self.due = now + settings.interval

    def answered(self) -> None:
        """The peer sent op 11; it counts from the next tick on."""
        self._answered = True

    def tick(self, now: float) -> Output:
        """Do what is due: ask again, or give up."""
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
        """Leave out time in which the peer could not be heard."""
        self.due += seconds


class KeepaliveTimer:
    """Pings a silent peer, and gives it up if that stays without any sign of life."""

    __slots__ = ("_pinged", "_settings", "due")

    def __init__(self, settings: Keepalive, now: float) -> None:
        self._settings = settings
        self._pinged = False
        self.due = now + settings.interval

    def seen(self, now: float) -> None:
        """Any inbound frame is a sign of life; so is reading again, for what waited to be read."""
        self._pinged = False
        self.due = now + self._settings.interval

    def tick(self, now: float) -> Output:
        """Do what is due: ask, or give up. The wait starts with the Ping, however late that is."""
        if self._pinged:
            return Close(CloseCode.NO_KEEPALIVE, f"silent for {self._settings.timeout:g} s after a Ping")
        self._pinged = True
        self.due = now + self._settings.timeout
        return SendPing()


MAX_WAIT = 1.0
"""Seconds from the first message that was handled to the acknowledgement."""

MAX_MESSAGES = 64
"""Messages that are handled before an acknowledgement does not wait any longer."""


class AckTimer:
    """Says when the next acknowledgement is due (spec section 17.6).

    Attributes:
        due: when; None if nothing is to be acknowledged.
    """

    __slots__ = ("_count", "due")

    def __init__(self) -> None:
        self._count = 0
        self.due: float | None = None

    def count(self, now: float) -> None:
        """One more message was handled."""
        self._count += 1
        if self._count >= MAX_MESSAGES:
            self.due = now
        elif self.due is None:
            self.due = now + MAX_WAIT

    def acknowledged(self) -> None:
        """Everything counted so far is being acknowledged."""
        self._count, self.due = 0, None
