"""What is written to one client: at once, or as soon as nothing is in the way.

Two things are in the way: a client that reads slowly (*congested*), and stored messages that
have to be read from the backend first (*blocked*). Frames that are stored nowhere wait here then,
each marked with the stored message that it follows. What waits is bounded; a client for whom more
would wait is given up.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple, Protocol


class PeerState(Enum):
    """What is known of a client whose socket is not read."""

    PRESENT = auto()
    FINISHED = auto()
    """It has closed its end; what it sent before may still have to be read."""
    GONE = auto()
    """The connection was reset, or TCP has given it up."""


class Transport(Protocol):
    """One client's WebSocket. Called in the event loop; nothing here waits.

    It tells its connection when more is buffered than the client reads in time (`congested`), and
    when that has been read (`relieved`).
    """

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client, outside of the system's own buffers."""

    def is_cut(self) -> bool:
        """Whether the client has gone or said that it sends no more: what is written may not arrive."""

    def write(self, payload: bytes, /) -> None:
        """Send a text frame, or buffer it."""

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping frame."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, empty for 1005, and cut the connection if no answer comes."""

    def pause_reading(self) -> None:
        """Receive nothing until `resume_reading`."""

    def resume_reading(self) -> None:
        """Receive again."""

    def peer_state(self) -> PeerState:
        """Say whether the client is there, without reading."""

    def cut(self) -> None:
        """End the connection at once; the connection is told as of any other end."""


MAX_HELD_BYTES = 1024 * 1024
"""Bytes that wait for the backend; what waits for the client is bounded by `max_buffered`."""

MAX_HELD_FRAMES = 4096

FRAME_COST = 64
"""Bytes that a frame takes beside its own."""


class _Held(NamedTuple):
    mark: int
    payload: bytes


class Outlet:
    """Writes frames to one client in order. For the event loop only.

    Args:
        transport: where frames go.
        put: writes a frame of the application's, whatever waits.
        max_buffered: bytes that may wait for the client.
        give_up: called with the reason when more would wait.

    Attributes:
        write: writes a frame, or lets it wait.
        put: see above.
        mark: sequence of the last stored message that is known and not written; what is held from
            now on follows it.
        is_congested: whether the client reads too slowly.
        is_cut: tells whether the client is gone before its connection has ended here. Of what is
            written then some frames arrive and others do not.
    """

    __slots__ = (
        "_frames",
        "_give_up",
        "_is_blocked",
        "_max_buffered",
        "_size",
        "_spared",
        "_transport",
        "is_congested",
        "is_cut",
        "mark",
        "put",
        "write",
    )

    def __init__(
        self,
        transport: Transport,
        put: Callable[[bytes], None],
        max_buffered: int,
        give_up: Callable[[str], None],
    ) -> None:
        self._transport = transport
        self._max_buffered = max_buffered
        self._give_up = give_up
        self._frames: deque[_Held] | None = None
        self._size = 0
        self._spared = 0
        self._is_blocked = False
        self.is_congested = False
        self.mark = 0
        self.put = put
        self.write = put
        self.is_cut = transport.is_cut

    def control(self, payload: bytes) -> None:
        """Write a frame of the protocol at once, whatever waits."""
        if self.put is not _nowhere:
            self._transport.write(payload)

    @property
    def is_clear(self) -> bool:
        """Whether a frame would be written at once."""
        return self.write is self.put

    @property
    def is_over(self) -> bool:
        """Whether more waits for the client than may."""
        return self._transport.buffered + self._size > self._max_buffered + self._spared

    def congested(self, *, by_page: bool = False) -> None:
        """Let everything wait until `relieved`.

        Args:
            by_page: whether what was written last was read from the backend. It may be larger than
                what else may wait, or a large message would never arrive; so what waits now does not count.
        """
        self._spared = self._transport.buffered if by_page else 0
        self.is_congested = True
        self._choose()

    def relieved(self) -> None:
        """The client reads again; write what waits, if nothing else is in the way."""
        self.is_congested = False
        self._spared = 0
        if not self._is_blocked:
            self.unblock()

    def block(self) -> None:
        """Let everything wait until `unblock`, for stored messages go first."""
        self._is_blocked = True
        self._choose()

    def unblock(self) -> None:
        """No stored message is missing: write what waits, as far as the client reads."""
        self._is_blocked = False
        self.mark = 0
        self._release(None)

    def follow(self, sequence: int, *, is_first: bool = False) -> None:
        """Let what will wait follow a stored message; with `is_first` also what waits already."""
        self.mark = max(self.mark, sequence)
        if is_first and self._frames:
            self._frames = deque(_Held(sequence, held.payload) for held in self._frames)

    def release_before(self, sequence: int) -> None:
        """Write what waits for no message from `sequence` on."""
        if self._frames:
            self._release(sequence)

    def flush(self) -> None:
        """Write all that waits, whatever is in the way: the last thing before a close."""
        frames, self._frames, self._size = self._frames or (), None, 0
        for held in frames:
            self.put(held.payload)

    def close(self) -> None:
        """Write nothing any more."""
        self._frames, self._size = None, 0
        self.put = self.write = _nowhere

    def _release(self, before: int | None) -> None:
        frames = self._frames
        while frames and not self.is_congested and (before is None or frames[0].mark < before):
            held = frames.popleft()
            self._size -= len(held.payload) + FRAME_COST
            self.put(held.payload)
        if not frames:
            self._frames = None
        self._choose()

    def _choose(self) -> None:
        if self.put is not _nowhere:
            waits = self.is_congested or self._is_blocked or self._frames
            self.write = self._hold if waits else self.put

    def _hold(self, payload: bytes) -> None:
        if self._frames is None:
            self._frames = deque()
        self._frames.append(_Held(self.mark, payload))
        self._size += len(payload) + FRAME_COST
        if self.is_over:
            self._give_up(f"{self._transport.buffered + self._size} bytes wait to be read")
        elif not self.is_congested and (self._size > MAX_HELD_BYTES or len(self._frames) > MAX_HELD_FRAMES):
            self._give_up(f"{len(self._frames)} messages wait for the backend")


def _nowhere(payload: bytes) -> None:
    """Where messages to a connection that has ended go; whoever calls `send` gets an error."""
