"""What one client sends, given to picows a bounded number of frames at a time.

picows handles every frame of a read at once, and doubles its buffer for large frames without ever giving
the memory back. So one client that floods would block the event loop, and one that sent a large message
would keep its size in memory. `FrameFeed` stands between the socket and picows:

- It passes at most `FRAMES_AT_ONCE` frames in a turn of the event loop. The rest waits, and the socket is not
  read, until the other connections had their turn.
- It passes a large frame as fragments of `PART` bytes, which `protocol.Fragments` joins again
  (RFC 6455 section 5.4 lets every part on the way do that). So the buffer of picows stays small.
- While reading is paused, it passes nothing either.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from picows.picows import WSProtocol  # type: ignore[attr-defined]  # its stubs leave it out

FRAMES_AT_ONCE = 32
"""Frames of one client that are handled in one turn of the event loop.

This is half of the default of `max_queued`, so that handlers that keep up let no receive queue fill.
"""

READ_AT_ONCE = 64 * 1024
"""Bytes that are read from a socket at a time."""

PART = 6144
"""Bytes of a large frame that are passed on at a time; picows' buffer grows to 7168 for it."""

MAX_HEAD = 16 * 1024
"""Bytes of a request among which its end has to be; picows answers longer ones."""

_END_OF_HEAD = b"\r\n\r\n"
_ASKS_FOR_WEBSOCKET = re.compile(rb"\r\nupgrade[ \t]*:[ \t]*websocket", re.IGNORECASE)
_HEAD, _GET = b"HEAD ", b"GET "

_FIN = 0x80
_IS_CONTROL = 0x08
_IS_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_OF_2_BYTES = 126
_SHORTEST = 6
"""Bytes of the shortest frame of a client: two, and the mask."""

_SHORT = _SHORTEST + 125
"""Bytes of the longest frame that has no more than that besides its payload."""

_SPARE = 257
"""Bytes of picows' buffer that stay free, or picows doubles it; so it does above nine tenths."""


HandOver = Callable[[asyncio.Transport, bytes], bool]
"""See `FrameFeed`."""


class FrameFeed(asyncio.BufferedProtocol):
    """Protocol of one client's socket, which gives what it reads to a `WSProtocol`.

    A HEAD request is passed on as the GET whose header fields it asks for.

    Args:
        make: makes the `WSProtocol`.
        room: memory to read into; all feeds of an event loop share it, as it is empty between reads.
        max_frame: bytes of a frame beyond which picows gets its head, and refuses it.
        hand_over: gets the head of the request, with what came after it, and returns whether the request is
            for something else; then the connection has another protocol already.

    Attributes:
        protocol: the `WSProtocol`, from the beginning of the connection to its end.
        is_head: whether the answer to the request must have no body.
        is_handed_over: whether the connection has another protocol.
    """

    __slots__ = (
        "_fits",
        "_hand_over",
        "_head",
        "_is_held",
        "_is_idle",
        "_is_last",
        "_make",
        "_mask",
        "_max_frame",
        "_payload",
        "_rest",
        "_room",
        "_size",
        "_transport",
        "_turn",
        "_waiting",
        "is_handed_over",
        "is_head",
        "protocol",
    )

    def __init__(
        self,
        make: Callable[["FrameFeed"], WSProtocol],
        room: memoryview,
        max_frame: int,
        hand_over: HandOver,
    ) -> None:
        self._make = make
        self._hand_over = hand_over
        self.protocol: WSProtocol
        self.is_head = self.is_handed_over = False
        self._room = room
        self._max_frame = max_frame
        self._transport: asyncio.Transport
        self._size = self._fits = 0  # bytes of picows' buffer, and as many as may be in it
        self._head: bytearray | None = bytearray()
        self._waiting = b""
        self._payload = 0  # bytes that the current frame, or part of a frame, still has
        self._rest = 0  # bytes of the parts after it
        self._mask = b""
        self._is_last = 0  # the FIN bit of a frame that is passed in parts
        self._turn: asyncio.Handle | None = None
        self._is_held = False
        self._is_idle = False  # whether the next byte that is read begins a frame, and may be passed on

    def begin(self, transport: asyncio.Transport, head: bytes) -> None:
        """Take a connection whose request another protocol has read; picows refuses one that is too long."""
        transport.set_protocol(self)
        self.connection_made(transport)
        head = head[:MAX_HEAD]
        self._room[: len(head)] = head
        self.buffer_updated(len(head))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the `WSProtocol`, with its time limits."""
        self._transport = transport
        self.protocol = self._make(self)
        self._grow(len(self.protocol.get_buffer(-1)))
        self.protocol.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the shared memory."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read, or keep it until it is this client's turn."""
        data = self._room[:nbytes]
        if self._is_idle and (
            (_SHORTEST <= nbytes <= _SHORT and data[1] == nbytes - _SHORTEST | _IS_MASKED)
            or (nbytes <= self._fits and _whole_frames(data)[0] == nbytes)
        ):
            self.protocol.get_buffer(-1)[:nbytes] = data
            self.protocol.buffer_updated(nbytes)
            return
        if self._head is not None:
            data = self._read_head(self._head, data)
            if self.is_handed_over:
                return
        if self._waiting:
            data, self._waiting = memoryview(self._waiting + data), b""
        if self._waiting_for_turn():  # the transport had read more before it paused
            self._waiting = bytes(data)
        else:
            self._feed(data)

    def eof_received(self) -> bool:
        """The client has finished."""
        return bool(self.protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._waiting = b""
        if self._turn is not None:
            self._turn.cancel()
        self.protocol.connection_lost(exc)
        del self.protocol  # it refers to this feed; so both are freed at once

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.protocol.resume_writing()

    def hold(self) -> None:
        """Read nothing, and pass nothing on, until `release`."""
        self._is_held = True
        self._is_idle = False
        self._transport.pause_reading()

    def release(self) -> None:
        """Pass on and read again, from the next turn of the event loop on."""
        self._is_held = False
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if self._is_held or self._transport.is_closing():
            return
        data, self._waiting = self._waiting, b""
        self._feed(memoryview(data))
        if not (self._waiting_for_turn() or self._transport.is_closing()):
            resume_reading(self._transport)

    def _grow(self, size: int) -> None:
        self._size = size
        self._fits = min(size * 9 // 10, size - _SPARE)

    def _waiting_for_turn(self) -> bool:
        return self._is_held or self._turn is not None

    def _read_head(self, head: bytearray, data: memoryview) -> memoryview:
        """Pass on the head of the request as soon as it is complete; return the bytes after it."""
        head += data
        end = head.find(_END_OF_HEAD)
        if end < 0 and len(head) < MAX_HEAD:
            return self._room[:0]
        if end >= 0 and self._hand_over(self._transport, bytes(head)):
            self._head, self.is_handed_over = None, True
            self.protocol.connection_lost(None)
            del self.protocol
            return self._room[:0]
        end = end + len(_END_OF_HEAD) if end >= 0 else len(head)
        rest, self._head = memoryview(head[end:]), None
        del head[end:]
        if head.startswith(_HEAD):
            self.is_head = True
            head[: len(_HEAD)] = _GET
        self._pass(memoryview(head))
        return rest

    def _feed(self, block: memoryview) -> None:
        """Pass on at most `FRAMES_AT_ONCE` frames; the other bytes wait."""
        self._is_idle = False
        start = at = frames = 0
        part = b""  # head of the part of a large frame that begins at `start`
        if self._payload == 0:
            at, frames = _whole_frames(block)
        while at < len(block) and frames < FRAMES_AT_ONCE:
            if self._payload == 0:
                after = self._begin_frame(block, at)
                if after == 0:
                    break
                if self._rest:
                    self._pass(block[start:at], part)
                    part = self._begin_part(block[at] & ~_FIN)
                    start = after
                at = after
            step = min(self._payload, len(block) - at)
            at += step
            self._payload -= step
            if self._payload:
                break
            if self._rest:
                self._pass(block[start:at], part)
                start = at
                part = self._begin_part(0)
            else:
                frames += 1
        self._pass(block[start:at], part)
        self._waiting = bytes(block[at:])
        if self._waiting and frames == FRAMES_AT_ONCE and not self._transport.is_closing():
            self._transport.pause_reading()
            if not self._is_held:
                self._turn = asyncio.get_running_loop().call_soon(self._go_on)
        self._is_idle = not (self._waiting or self._payload or self._is_held)

    def _begin_frame(self, block: memoryview, at: int) -> int:
        """Read the head of a frame (RFC 6455 section 5.2); return where it ends, 0 if a part is missing."""
        if len(block) < at + 2:
            return 0
        first, second = block[at], block[at + 1]
        end = at + 2
        length = second & _LENGTH
        if length >= _LENGTH_OF_2_BYTES:
            end += 2 if length == _LENGTH_OF_2_BYTES else 8
            length = int.from_bytes(block[at + 2 : end])
        if second & _IS_MASKED:
            end += 4
        if len(block) < end:
            return 0
        if PART < length <= self._max_frame and second & _IS_MASKED and not first & _IS_CONTROL:
            self._mask = bytes(block[end - 4 : end])
            self._is_last = first & _FIN
            self._rest = length
        else:
            self._payload = length
        return end

    def _begin_part(self, first: int) -> bytes:
        """Begin the next part of a large frame, and return its head.

        Args:
            first: opcode and reserved bits of the part; 0 for a continuation.
        """
        self._payload = min(self._rest, PART)
        self._rest -= self._payload
        if not self._rest:
            first |= self._is_last
        if self._payload < _LENGTH_OF_2_BYTES:
            return bytes([first, _IS_MASKED | self._payload]) + self._mask
        length = _IS_MASKED | _LENGTH_OF_2_BYTES
        return bytes([first, length]) + self._payload.to_bytes(2) + self._mask

    def _pass(self, block: memoryview, head: bytes = b"") -> None:
        """Give bytes to picows, without filling its buffer so far that picows doubles it needlessly."""
        while (block or head) and not self._transport.is_closing():
            room = self.protocol.get_buffer(-1)
            pending = self._size - len(room)
            fits = self._fits - pending
            size = min(len(head) + len(block), fits if fits > len(head) else len(room))
            room[: len(head)] = head
            room[len(head) : size] = block[: size - len(head)]
            block, head = block[size - len(head) :], b""
            if size > fits:  # a part that is larger than the buffer
                self._grow(2 * self._size)
            self.protocol.buffer_updated(size)


def plain_path(request: bytes) -> bytes | None:
    """Return the path of a request, without its query; None if it asks for a WebSocket."""
    head = request.partition(_END_OF_HEAD)[0]
    path = head.partition(b" ")[2].partition(b" ")[0].partition(b"?")[0]
    return None if _ASKS_FOR_WEBSOCKET.search(head) else path


def _whole_frames(block: memoryview) -> tuple[int, int]:
    """Return where the first frames end that are complete and not large, and their number.

    These are nearly all that there are, so this loop does no more than it has to.
    """
    at = frames = 0
    size = len(block)
    while frames < FRAMES_AT_ONCE and at + _SHORTEST <= size:
        length = block[at + 1] - _IS_MASKED
        if 0 <= length < _LENGTH_OF_2_BYTES:
            end = at + _SHORTEST + length
        elif length == _LENGTH_OF_2_BYTES:
            length = block[at + 2] << 8 | block[at + 3]
            end = at + _SHORTEST + 2 + length if length <= PART else size + 1
        else:
            break
        if end > size:
            break
        at = end
        frames += 1
    return at, frames


def resume_reading(transport: Any) -> None:
    """Resume reading, beginning with the bytes that were received before the pause.

    aiofastnet itself reads the socket first, and if the peer has closed, it drops the bytes that it has
    not decrypted yet. Call this from the event loop itself, not while a frame is handled.
    """
    transport.resume_reading()
    read_received = getattr(transport, "_retry_ssl_read", None)
    if read_received is not None:
        read_received()
