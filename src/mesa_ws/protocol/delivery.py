"""Track which stored messages of its id a connection was sent, and which of them it has acknowledged.

`cursor.py` tells how messages are *sent*. A client of wire 2 *acknowledges* what it has handled
(`on_ack`). A client of wire 1 knows no acknowledgement, but it answers probes, in order and after it
has handled what came before them: `on_probe` puts a mark at what was sent before the probe, and
`on_answer` acknowledges that much. Nothing else acknowledges anything, a clean close least of all.

A connection falls behind, too, while more than a window is sent and not acknowledged. So what is
sent twice after a crash stays bounded, and so does the time that a heartbeat waits behind messages.

A *probe* is an op 1: a client of 1.x answers each with op 11, in order, after it has handled what
came before. So the n-th op 11 of a connection answers its n-th op 1, heartbeats included, and the
number n is the probe's *token*. Where Pings are the probes, the token travels in their payload,
because a peer need only answer the last of several Pings (RFC 6455 section 5.5.3).

An op 11 without a probe was meant for another connection of the same client. From then on answers
cannot be told apart, and none is trusted.
"""

from typing import NamedTuple

from ..messages.receipt import Position
from .cursor import UNBOUNDED, Cursor
from .resume import Summary

WINDOW_MESSAGES = 4096
"""Messages that may be sent and not acknowledged."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Bytes that may be sent and not acknowledged, on wire 1."""

MAX_MARKS = 16
"""Open probes that are remembered; what one more would acknowledge is left to the next probe."""


class _Mark(NamedTuple):
    """What the answer to a probe acknowledges: all that had been sent before the probe."""

    token: int
    sequence: int
    written: int


class OutboxCursor(Cursor):
    """Progress of a connection through the outbox of its id, and how far it has acknowledged.

    Args:
        is_wire2: whether the client acknowledges by itself.
        max_messages: how many may be sent and not acknowledged.
        max_bytes: bytes of those, on wire 1.

    Attributes:
        is_wire2: as above.
        acked: the sequence, of `epoch`, up to which the client has everything.
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
        "acked",
        "is_wire2",
    )

    def __init__(
        self, *, is_wire2: bool, max_messages: int = WINDOW_MESSAGES, max_bytes: int = WINDOW_BYTES
    ) -> None:
        super().__init__()
        self.is_wire2 = is_wire2
        self.acked = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._asked = 0  # the newest token
        self._backlog = 0  # what wire 1 numbers ends here
        self._count = 0
        self._is_trusted = True
        self._marks: tuple[_Mark, ...] = ()  # most connections have none at most times
        self._released = 0  # bytes that were acknowledged
        if not is_wire2:
            self._room = max_bytes

    @property
    def position(self) -> Position:
        """Position up to which the client has everything, for the backend."""
        return Position(self.epoch, self.acked)

    @property
    def needs_probe(self) -> bool:
        """Whether a probe would acknowledge what no open probe will. Never on wire 2."""
        return not self.is_wire2 and self._is_trusted and self.sent > self._marked()

    @property
    def awaits_answer(self) -> bool:
        """Whether the answer to an open probe would acknowledge something."""
        return bool(self._marks)

    def on_page(self, page: Summary) -> bool:
        """Begin to write a page; see `Cursor.on_page`."""
        is_first, was = not self.epoch, self.epoch
        must_tell = super().on_page(page)
        if is_first:
            self._backlog = page.top
        elif page.epoch != was:
            self._backlog = 0
        if is_first or page.status not in ("resumed", "forked"):
            self._start_over(page.start)
        elif page.status == "forked":
            self.acked = min(self.acked, page.start)
            self._marks = tuple(m._replace(sequence=min(m.sequence, page.start)) for m in self._marks)
        self._slide()
        return must_tell

    def on_sent(self, size: int = 0) -> int | None:
        """Count the next message of the page, of `size` bytes, as sent.

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

    def on_probe(self, token: int) -> None:
        """Note that a probe was sent; its answer acknowledges what was sent before it."""
        if token <= self._asked:
            return
        self._asked = token
        if self.needs_probe and len(self._marks) < MAX_MARKS:
            self._marks += (_Mark(token, self.sent, self._written()),)

    def on_answer(self, token: int) -> bool:
        """Note that the client answered a probe.

        Returns:
            Whether more is acknowledged than before.
        """
        before = self.acked
        while self._marks and self._marks[0].token <= token:
            mark, *later = self._marks
            self._marks = tuple(later)
            self._release(mark.written)
            self.acked = max(self.acked, mark.sequence)
        self._slide()
        return self.acked > before

    def distrust(self) -> None:
        """Ignore further answers of this client, and wait for none."""
        self._is_trusted = False
        self._marks = ()
        if not self.is_wire2:
            self._limit = self._room = UNBOUNDED

    def on_ack(self, position: Position) -> bool:
        """Note that a client of wire 2 acknowledged everything up to `position`.

        Ignored if that is of another epoch, or more than the client was sent.

        Returns:
            Whether more is acknowledged than before.
        """
        if position.epoch != self.epoch or not self.acked < position.sequence <= self.sent:
            return False
        self.acked = position.sequence
        self._slide()
        return True

    def _marked(self) -> int:
        return self._marks[-1].sequence if self._marks else self.acked

    def _written(self) -> int:
        return self._released + self._max_bytes - self._room

    def _release(self, written: int) -> None:
        self._room += written - self._released
        self._released = written

    def _start_over(self, start: int) -> None:
        """Forget what was sent before: it says nothing about the outbox as it stands now."""
        self.acked = start
        self._marks = ()
        if not self.is_wire2 and self._is_trusted:
            self._room, self._released = self._max_bytes, 0

    def _slide(self) -> None:
        """Move the window to what is acknowledged."""
        if self.is_wire2 or self._is_trusted:
            self._limit = self.acked + self._max_messages


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
