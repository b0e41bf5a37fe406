"""Join WebSocket frames into messages (RFC 6455 section 5.4), within limits."""

from typing import NamedTuple

from ..close import CloseCode

SMALL_FRAGMENT = 4096
"""Bytes below which a fragment counts towards the limit of fragments."""


class Violation(Exception):
    """The peer broke a rule; the connection has to be closed with `code`."""

    def __init__(self, code: CloseCode, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class DataFrame(NamedTuple):
    """A text, binary or continuation frame; control frames never get here."""

    is_continuation: bool
    is_final: bool
    payload: bytes


class Fragments:
    """Joins the frames of one direction of one connection.

    Text and binary messages are treated alike, as 1.x does.

    Args:
        max_message: bytes of one message.
        max_fragments: frames of one message that have less than `SMALL_FRAGMENT` bytes, so that frames
            without end cost nothing.
    """

    __slots__ = ("_max_fragments", "_max_message", "_parts", "_small")

    def __init__(self, max_message: int, max_fragments: int) -> None:
        self._max_message = max_message
        self._max_fragments = max_fragments
        self._parts: bytearray | None = None
        self._small = 0

    @property
    def size(self) -> int:
        """Bytes of the message that is not complete."""
        return len(self._parts) if self._parts is not None else 0

    def add(self, frame: DataFrame) -> bytes | None:
        """Add one frame; return the message that it completes, or None.

        Raises:
            Violation: a frame out of order, or a message over the limits.
        """
        parts = self._begin(frame)
        if len(parts) + len(frame.payload) > self._max_message:
            raise Violation(CloseCode.TOO_BIG, f"message of more than {self._max_message} bytes")
        parts += frame.payload
        self._small += len(frame.payload) < SMALL_FRAGMENT
        if frame.is_final:
            self._parts = None
            return bytes(parts)
        if self._small >= self._max_fragments:
            raise Violation(CloseCode.TOO_BIG, f"message of more than {self._max_fragments} fragments")
        return None

    def _begin(self, frame: DataFrame) -> bytearray:
        if self._parts is None:
            if frame.is_continuation:
                raise Violation(CloseCode.PROTOCOL_ERROR, "continuation frame without a first one")
            self._parts, self._small = bytearray(), 0
        elif not frame.is_continuation:
            raise Violation(CloseCode.PROTOCOL_ERROR, "new message inside a fragmented one")
        return self._parts
