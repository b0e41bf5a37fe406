"""When a client acknowledges what it has handled: not too often, and not too late."""

MAX_WAIT = 1.0
"""Seconds from the first message that was handled to the acknowledgement."""

MAX_MESSAGES = 64
"""Messages that are handled before an acknowledgement does not wait any longer."""


class Pace:
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
