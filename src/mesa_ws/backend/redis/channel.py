"""Channel of a node: reads frames and passes their envelopes to the server."""

import logging
import struct
from collections.abc import Callable, Container
from typing import Any, Literal

import msgspec

from ...concurrency.limited_log import LimitedLog
from ...messages.envelope import Envelope, read_policy
from ...messages.receipt import Position
from ...messages.recipients import Recipients
from ..base import Receive

_log = logging.getLogger("mesa_ws.backend")


class FrameHead(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Head of a frame, which precedes the body.

    Later versions append members; readers ignore members that they do not know.

    Attributes:
        counter: number of frames published to this node, this one included.
        kind: kind of the message; `marker` belongs to a heartbeat and has no body.
        message_id: id of the dispatch; of a marker, whether messages skipped this node before it.
        ids: the recipients that this node holds, or `*` for everybody.
        excluding: ids that `*` leaves out.
        positions: epoch and sequence in turn, for each of the ids or once for `*`; empty for a message
            that is not stored.
        delivery: `volatile`, or `latest:` and a key, if the message may be dropped or replaced for a client
            that reads slowly; absent if not. Any other text is as if it were absent.
    """

    counter: int
    kind: Literal["message", "disconnect", "request", "connection", "order", "marker"]
    message_id: str
    ids: tuple[str, ...] | Literal["*"]
    excluding: frozenset[str]
    positions: list[str | int] = []
    delivery: Any = ""


_decode_head = msgspec.msgpack.Decoder(FrameHead).decode
_read_size = struct.Struct(">I").unpack_from


class InvalidNodeFrame(ValueError):
    """The bytes on the channel are not a frame."""


def read_frame(data: bytes) -> tuple[FrameHead, Envelope]:
    """Read the head of a frame, and the message that it carries; that of a marker means nothing.

    Raises:
        InvalidNodeFrame: the bytes are not a frame.
    """
    try:
        start = 4 + _read_size(data)[0]
        if len(data) < start:
            raise InvalidNodeFrame(f"the frame has {len(data)} bytes, and its head alone {start}")
        head = _decode_head(data[4:start])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, struct.error) as error:
        raise InvalidNodeFrame(str(error)) from None
    kind: Any = head.kind
    everybody, ids = (False, head.ids) if head.ids != "*" else (True, ())
    recipients = Recipients(everybody, ids, head.excluding)
    positions = _read_positions(head.positions, 1 if everybody else len(ids)) if head.positions else ()
    delivery = read_policy(head.delivery) if head.delivery else ""
    body, message_id = data[start:], head.message_id
    return head, Envelope(recipients, body, kind, message_id, positions=positions, delivery=delivery)


class Channel:
    """Channel of one node: passes each frame on, and notices gaps.

    Redis counts the frames that it publishes to a node; pub/sub drops a frame that no subscriber
    receives. A counter that falls belongs to a Redis that lost its data, and proves no loss of frames.

    Args:
        receive: gets the envelopes.
        held: ids that the node holds.
        on_unknown_ids: called with ids that a frame names and the node does not hold: Redis wrongly
            has them here.
        on_gap: called when frames are missing before the one that arrived, or may be.
        on_missed: called when messages skipped this node, which had no lease, before it handles the next.
        on_failure: called when `receive` raised.

    Attributes:
        lost: frames that were published to this node and never arrived, as far as is known.
        garbage: number of messages that were not frames.
        unheard: heartbeats since the last marker that arrived.
        log: gets what foreign bytes cause.
    """

    def __init__(
        self,
        receive: Receive,
        held: Container[str],
        on_unknown_ids: Callable[[list[str]], None],
        on_gap: Callable[[], None],
        on_missed: Callable[[], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._receive = receive
        self._held = held
        self._on_unknown_ids = on_unknown_ids
        self._on_gap = on_gap
        self._on_missed = on_missed
        self._on_failure = on_failure
        self._counter: int | None = None
        self.log = LimitedLog(_log)
        self.lost = 0
        self.garbage = 0
        self.unheard = 0

    def on_frame(self, data: bytes) -> None:
        """Handle one message from the channel."""
        try:
            head, envelope = read_frame(data)
        except InvalidNodeFrame:
            self.garbage += 1
            self.log.warning(
                "ignored %d bytes on this node's channel, which are not a frame of Mesa", len(data)
            )
            return
        last, self._counter = self._counter, head.counter
        if last is not None and head.counter != last + (head.kind != "marker"):
            self._look_for_gap(last, head)
        if head.kind == "marker":
            self.unheard = 0
            if head.message_id and last is not None:
                self._on_missed()
            return
        try:
            self._receive(envelope)
        except Exception:  # one message that fails must not stop those that follow
            self.log.exception(
                "message %r could not be delivered here; stored messages are read again", envelope.message_id
            )
            self._on_failure()
        if head.kind == "connection":
            return
        ids, held = envelope.recipients.ids, self._held
        for id in ids:
            if id not in held:
                self._on_unknown_ids([id for id in ids if id not in held])
                return

    def _look_for_gap(self, last: int, head: FrameHead) -> None:
        """Compare the counter of a frame with that of the last one; a marker repeats it."""
        missing = head.counter - (head.kind != "marker") - last
        if missing > 0:
            self.lost += missing
            self.log.info(
                "a gap of %d on this node's channel: stored messages are read from Redis now, "
                "those sent without sync did not arrive here",
                missing,
            )
        if missing > 0 or head.counter < last:
            self._on_gap()


def _read_positions(flat: list[str | int], count: int) -> tuple[Position, ...]:
    """Read the positions of a head.

    Raises:
        InvalidNodeFrame: the members are no positions, or not as many as are expected.
    """
    if len(flat) != 2 * count:
        raise InvalidNodeFrame(f"{len(flat)} members are not one position for each recipient")
    if count == 1:  # nearly always
        return (_position(*flat),)
    return tuple(map(_position, flat[::2], flat[1::2]))


def _position(epoch: str | int, sequence: str | int) -> Position:
    if not isinstance(epoch, str) or not isinstance(sequence, int):
        raise InvalidNodeFrame("positions have to be text and integer in turn")
    return Position(epoch, sequence)
