"""Turns the frames on a node's channel into envelopes for the server."""

import logging
from collections.abc import Callable
from typing import Literal

import msgspec

from ...messages.envelope import Envelope
from ...messages.receipt import Position
from ...messages.recipients import Recipients
from ..base import Receive
from .members import MemberTable


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands before the body.

    Later versions append members; those that do not know them pass over them.

    Attributes:
        counter: hints published to this node up to and including this one.
        kind: what to do; `marker` belongs to a heartbeat and has no body.
        message_id: names the dispatch.
        ids: the recipients that this node holds, or `*` for everybody.
        excluding: ids that are left out of everybody.
        positions: epoch and sequence in turn, for each of the ids or once for everybody; empty for
            what is not stored.
    """

    counter: int
    kind: Literal["message", "disconnect", "request", "connection", "marker"]
    message_id: str
    ids: list[str] | Literal["*"]
    excluding: list[str]
    positions: list[str | int] = []


class InvalidHint(ValueError):
    """Bytes on the channel that are not a frame."""


class Hint(msgspec.Struct, frozen=True, gc=False):
    """One frame."""

    head: Head
    body: bytes
    positions: tuple[Position, ...] = ()

    @classmethod
    def of(cls, frame: bytes) -> "Hint":
        """Read a frame.

        Raises:
            InvalidHint: it is none.
        """
        start = 4 + int.from_bytes(frame[:4], "big")
        if len(frame) < start:
            raise InvalidHint(f"expected a head of {start - 4} bytes, got {max(0, len(frame) - 4)}")
        try:
            head = _DECODER.decode(frame[4:start])
            return cls(head, frame[start:], _positions(head))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidHint(str(error)) from None

    @property
    def envelope(self) -> Envelope:
        """The message it carries; not for markers."""
        head = self.head
        everybody = head.ids == "*"
        recipients = Recipients(everybody, () if everybody else tuple(head.ids), frozenset(head.excluding))
        return Envelope(
            recipients,
            self.body,
            head.kind,  # type: ignore[arg-type]  # markers carry no message
            head.message_id,
            positions=self.positions,
        )


class Continuity:
    """Finds hints that were lost, from the counter that every frame carries.

    Redis counts what it published to a node; pub/sub forgets what finds no listener. A counter
    that falls is a Redis that lost its memory, from which nothing can be concluded.

    Attributes:
        lost: hints known to be lost so far.
    """

    def __init__(self) -> None:
        self.lost = 0
        self._last: int | None = None

    def passed(self, head: Head) -> int:
        """Take note of a frame and return how many are missing before it."""
        before = head.counter - (head.kind != "marker")
        missing = max(0, before - self._last) if self._last is not None else 0
        self._last = head.counter
        self.lost += missing
        return missing


def _positions(head: Head) -> tuple[Position, ...]:
    """Read the positions of a head.

    Raises:
        InvalidHint: they are none, or not one for each id.
    """
    flat = head.positions
    if not flat:
        return ()
    if len(flat) == 2 and (head.ids == "*" or len(head.ids) == 1):  # nearly always
        return (_position(*flat),)
    if len(flat) != 2 * (1 if head.ids == "*" else len(head.ids)):
        raise InvalidHint(f"expected a position for each recipient, got {len(flat)} members")
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return tuple(_position(epoch, sequence) for epoch, sequence in pairs)


def _position(epoch: str | int, sequence: str | int) -> Position:
    if not isinstance(epoch, str) or not isinstance(sequence, int):
        raise InvalidHint("expected positions of text and integer in turn")
    return Position(epoch, sequence)


_DECODER = msgspec.msgpack.Decoder(Head)


_log = logging.getLogger("mesa_ws.backend")


class Channel:
    """What a node does with each frame.

    Args:
        receive: gets the envelopes.
        table: whom the node holds.
        on_strangers: called with ids that a hint names and the node does not hold, which others
            therefore believe to be here.
        on_gap: called when frames are missing before the one that came, or may be: the counter fell,
            so this is a Redis that forgot.

    Attributes:
        garbage: frames that were none.
        unheard: heartbeats since the last marker that came in.
    """

    def __init__(
        self,
        receive: Receive,
        table: MemberTable,
        on_strangers: Callable[[list[str]], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._table = table
        self._on_strangers = on_strangers
        self._on_gap = on_gap
        self._continuity = Continuity()
        self._counter = 0
        self.garbage = 0
        self.unheard = 0

    @property
    def lost(self) -> int:
        """Hints that were published to this node and never came."""
        return self._continuity.lost

    def on_frame(self, frame: bytes) -> None:
        """Take one frame as it came."""
        try:
            hint = Hint.of(frame)
        except InvalidHint:
            self.garbage += 1
            _log.warning("ignored %d bytes on this node's channel that no Mesa sent", len(frame))
            return
        missing = self._continuity.passed(hint.head)
        if missing:
            _log.info(
                "a gap of %d on this node's channel: what is stored is read from Redis now, "
                "what was sent without sync did not arrive here",
                missing,
            )
        if missing or hint.head.counter < self._counter:
            self._on_gap()
        self._counter = hint.head.counter
        if hint.head.kind == "marker":
            self.unheard = 0
        else:
            self._deliver(hint)

    def _deliver(self, hint: Hint) -> None:
        envelope = hint.envelope
        try:
            self._receive(envelope)
        except Exception:  # noqa: BLE001  # whatever the server did, the next message counts
            _log.exception("message %r could not be delivered here", envelope.message_id)
        if envelope.kind == "connection":
            return
        strangers = self._table.strangers(envelope.recipients.ids)
        if strangers:
            self._on_strangers(strangers)
