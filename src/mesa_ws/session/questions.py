"""Questions to a client whose answers prove what it has, and when they may be asked.

A client of 1.x answers every op 1 with op 11, in order, after it has handled what came before. So
the n-th op 11 of a connection answers its n-th op 1, heartbeats included, and the number n is the
question's *token*. Where Pings ask instead, the token travels in their payload, because a peer
need only answer the last of several Pings (RFC 6455 section 5.5.3).

An op 11 to no question was meant for another connection of the same client. From then on answers
cannot be told apart, and none is trusted.
"""

PROBE_INTERVAL = 1.0
"""Seconds from one question to the next probe."""


class Questions:
    """Counts what one connection was asked and has answered.

    Attributes:
        are_trusted: whether answers prove anything.
    """

    __slots__ = ("_answered", "_asked", "_asked_at", "are_trusted")

    def __init__(self) -> None:
        self._asked = 0
        self._answered = 0
        self._asked_at = float("-inf")
        self.are_trusted = True

    def may_ask(self, now: float) -> bool:
        """Whether a probe may be sent: none is open, and the last question was a while ago."""
        is_open = self._answered < self._asked
        return self.are_trusted and not is_open and now - self._asked_at >= PROBE_INTERVAL

    def ask(self, now: float) -> int:
        """Count a question, and return its token."""
        self._asked += 1
        self._asked_at = now
        return self._asked

    def answered(self) -> int | None:
        """Count an op 11, and return the token that it answers; None for a stray one."""
        if self._answered == self._asked:
            self.are_trusted = False
            return None
        self._answered += 1
        return self._answered

    def ponged(self, payload: bytes) -> int | None:
        """Take a Pong, and return the token that it answers; None if it answers no open question."""
        if not payload.isdigit() or len(payload) > len(str(self._asked)):
            return None
        token = int(payload)
        if not self._answered < token <= self._asked:
            return None
        self._answered = token
        return token
