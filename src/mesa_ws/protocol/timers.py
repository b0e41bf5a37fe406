"""Timers of a connection: heartbeats (op 1, answered by op 11), keepalive Pings, acknowledgements.

All are driven by `now` and never look at a clock. A heartbeat ticks every `interval` from the
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
    """Pings a silent peer, and gives up if no sign of life follows."""

    __slots__ = ("_pinged", "_settings", "due")

    def __init__(self, settings: Keepalive, now: float) -> None:
        self._settings = settings
        self._pinged = False
        self.due = now + settings.interval

    def seen(self, now: float) -> None:
        """Count an inbound frame as a sign of life; reading again counts too, for frames that waited."""
        self._pinged = False
        self.due = now + self._settings.interval

    def tick(self, now: float) -> Output:
        """Do what is due: send a Ping, or give up. The wait starts with the Ping, however late it is sent."""
        if self._pinged:
            return Close(CloseCode.NO_KEEPALIVE, f"silent for {self._settings.timeout:g} s after a Ping")
        self._pinged = True
        self.due = now + self._settings.timeout
        return SendPing()


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
