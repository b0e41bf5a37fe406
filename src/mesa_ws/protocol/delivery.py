"""What one connection was sent of the outbox of its id, and what of that it has proven to have.

What was *sent* (`cursor.py` tells how) is not yet *proven*. A client of wire 2 acknowledges what it
has handled: `proved`. One of wire 1 knows no acknowledgement, but it answers questions, in order and
after it has handled what came before them: `asked` puts a mark at what was written before the
question, and `answered` proves it. Nothing else proves anything, a clean close least of all.

A connection falls behind, too, while more than a window is sent and unproven. So what is sent twice
after a crash stays bounded, and so does the time that a heartbeat waits behind messages.

Questions to a client whose answers prove what it has, and when they may be asked.

A client of 1.x answers every op 1 with op 11, in order, after it has handled what came before. So
the n-th op 11 of a connection answers its n-th op 1, heartbeats included, and the number n is the
question's *token*. Where Pings ask instead, the token travels in their payload, because a peer
need only answer the last of several Pings (RFC 6455 section 5.5.3).

An op 11 to no question was meant for another connection of the same client. From then on answers
cannot be told apart, and none is trusted.
"""

from typing import NamedTuple

from ..messages.receipt import Position
from .cursor import UNBOUNDED, Cursor
from .resume import Summary

WINDOW_MESSAGES = 4096
"""Messages that may be sent and unproven."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes that may be sent and unproven, on wire 1."""

MAX_MARKS = 16
"""Open questions that are remembered; what a further one would prove is left to the next."""


class _Mark(NamedTuple):
    """What the answer to a question proves: all that had been written when it was asked."""

    token: int
    sequence: int
    written: int


class Replay(Cursor):
    """Progress of a connection through the outbox of its id, and what of it is proven.

    Args:
        is_wire2: whether the client acknowledges by itself.
        max_messages: how many may be sent and unproven.
        max_bytes: bytes of those, on wire 1.

    Attributes:
        is_wire2: as above.
        proven: the sequence, of `epoch`, up to which the client has everything.
    """

    __slots__ = (
        "_asked",
        "_backlog",
        "_count",
        "_is_trusted",
        "_marks",
        "_max_bytes",
        "_max_messages",
        "_released",
        "is_wire2",
        "proven",
    )

    def __init__(
        self, *, is_wire2: bool, max_messages: int = WINDOW_MESSAGES, max_bytes: int = WINDOW_BYTES
    ) -> None:
        super().__init__()
        self.is_wire2 = is_wire2
        self.proven = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._asked = 0  # the newest token
        self._backlog = 0  # what wire 1 numbers ends here
        self._count = 0
        self._is_trusted = True
        self._marks: tuple[_Mark, ...] = ()  # most connections have none at most times
        self._released = 0  # bytes that were proven
        if not is_wire2:
            self._room = max_bytes

    @property
    def position(self) -> Position:
        """What the client has proven, for the backend."""
        return Position(self.epoch, self.proven)

    @property
    def needs_proof(self) -> bool:
        """Whether a probe would prove what no open question will. Never on wire 2."""
        return not self.is_wire2 and self._is_trusted and self.sent > self._marked()

    @property
    def has_outstanding(self) -> bool:
        """Whether the answer to an open question would prove something."""
        return bool(self._marks)

    def took(self, page: Summary) -> bool:
        """Take a page; see `Cursor.took`."""
        is_first, was = not self.epoch, self.epoch
        must_tell = super().took(page)
        if is_first:
            self._backlog = page.top
        elif page.epoch != was:
            self._backlog = 0
        if is_first or page.status not in ("resumed", "forked"):
            self._start_over(page.start)
        elif page.status == "forked":
            self.proven = min(self.proven, page.start)
            self._marks = tuple(m._replace(sequence=min(m.sequence, page.start)) for m in self._marks)
        self._slide()
        return must_tell

    def wrote(self, size: int = 0) -> int | None:
        """Pass the next message of the page, of `size` bytes.

        Returns:
            Its `s`. On wire 1 the messages that were stored before the login count from 1, and
            later ones have none.

        Raises:
            OutOfTurn: the page has no more.
        """
        self._pass(size)
        if self.is_wire2:
            return self.sent
        if self.sent > self._backlog:
            return None
        self._count += 1
        return self._count

    def asked(self, token: int) -> None:
        """A question was written; its answer proves what was written before it."""
        if token <= self._asked:
            return
        self._asked = token
        if self.needs_proof and len(self._marks) < MAX_MARKS:
            self._marks += (_Mark(token, self.sent, self._written()),)

    def answered(self, token: int) -> bool:
        """The client answered a question.

        Returns:
            Whether it has proven more than before.
        """
        before = self.proven
        while self._marks and self._marks[0].token <= token:
            mark, *later = self._marks
            self._marks = tuple(later)
            self._release(mark.written)
            self.proven = max(self.proven, mark.sequence)
        self._slide()
        return self.proven > before

    def distrust(self) -> None:
        """Answers of this client prove nothing any more, so there is nothing to wait for."""
        self._is_trusted = False
        self._marks = ()
        if not self.is_wire2:
            self._limit = self._room = UNBOUNDED

    def proved(self, position: Position) -> bool:
        """A client of wire 2 acknowledged everything up to `position`.

        Ignored if that is of another epoch, or more than it was sent.

        Returns:
            Whether it has proven more than before.
        """
        if position.epoch != self.epoch or not self.proven < position.sequence <= self.sent:
            return False
        self.proven = position.sequence
        self._slide()
        return True

    def _marked(self) -> int:
        return self._marks[-1].sequence if self._marks else self.proven

    def _written(self) -> int:
        return self._released + self._max_bytes - self._room

    def _release(self, written: int) -> None:
        self._room += written - self._released
        self._released = written

    def _start_over(self, start: int) -> None:
        """Nothing of what was sent before counts for where the outbox stands now."""
        self.proven = start
        self._marks = ()
        if not self.is_wire2 and self._is_trusted:
            self._room, self._released = self._max_bytes, 0

    def _slide(self) -> None:
        """Move the window to what is proven."""
        if self.is_wire2 or self._is_trusted:
            self._limit = self.proven + self._max_messages


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
