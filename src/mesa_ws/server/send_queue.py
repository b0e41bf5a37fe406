"""The send queue of one connection, and the transport below it.

A frame is written at once unless one of two things is in the way: the client reads slowly
(*congested*), or stored messages have to be read from the backend first (*blocked*). Then frames
that are not stored anywhere wait in the queue, each marked with the stored message that it follows.
The queue is bounded: a client for whom more would wait is disconnected. `SlowReaders` bounds all queues
of a node together.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

from ..messages.envelope import VOLATILE
from ..messages.frames import HEAD_SIZE, joined
from .slow_readers import SlowReaders


class PeerState(Enum):
    """State of a client whose socket is not read."""

    PRESENT = auto()
    FINISHED = auto()
    """The client has closed its end; frames that it sent before may still have to be read."""
    GONE = auto()
    """The connection was reset, or TCP has given up on it."""


class Transport(Protocol):
    """WebSocket of one client. Called in the event loop; no method waits.

    The transport calls its connection when more is buffered than the client reads in time
    (`congested`), and when the client has read that (`relieved`); and whenever what is buffered has grown, or
    has all been sent (`recount`).
    """

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client, without those in the system's own buffers."""

    @property
    def memory(self) -> int:
        """The same, with the memory that each frame takes besides its bytes."""

    def is_cut(self) -> bool:
        """Whether the client has gone or has closed its end, so that frames written now may not arrive."""

    def write(self, payload: bytes, /) -> None:
        """Send a text frame, or buffer it."""

    @property
    def write_joined(self) -> Callable[[bytes], None] | None:
        """Function that sends what `joined` returns, up to `JOINED_BYTES`.

        None while anything is buffered, as each frame is counted then, and where frames are sent singly.
        """

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping frame."""

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, empty for 1005, and cut the connection if the client does not answer."""

    def hold_back(self) -> None:
        """Call the connection's `congested` now, and `relieved` when the client has read what waits."""

    def pause_reading(self) -> None:
        """Stop receiving until `resume_reading`."""

    def resume_reading(self) -> None:
        """Start receiving again."""

    def peer_state(self) -> PeerState:
        """Return whether the client is still there, without reading."""

    def cut(self) -> None:
        """End the connection at once; the transport reports that like any other end."""


JOINED_BYTES = 16 * 1024
"""Bytes of frames that leave in one write: one record of TLS. A larger frame goes alone."""

MAX_HELD_BYTES = 1024 * 1024
"""Bytes that may wait for the backend; `max_buffered` bounds those that wait for the client."""

MAX_HELD_FRAMES = 4096
"""Frames that may wait for the backend."""

FRAME_COST = 64
"""Bytes of memory that a waiting frame takes besides its payload."""

MAX_JOINED = JOINED_BYTES - HEAD_SIZE
"""Bytes of the largest payload that is joined with others."""


class _Held:
    """A frame that waits; empty if a newer one with its policy has replaced it."""

    __slots__ = ("mark", "payload", "policy")

    def __init__(self, mark: int, payload: bytes, policy: str) -> None:
        self.mark, self.payload, self.policy = mark, payload, policy


class SendQueue:
    """Write frames to one client in order. For the event loop only.

    Attributes:
        write: writes a frame, or queues it.
        put: writes a frame of the application at once, even while others wait.
        write_joined: that of the transport, while `write` hands each frame to it; or else None.
        mark: sequence of the last stored message that is known and not written; frames queued from
            now on follow it.
        is_slow: whether something waits, and is counted for the node.
        is_congested: whether the client reads too slowly.
        unwritten: bytes of pages of stored messages that were read and are not written yet; counted by
            `Subscription`.
        give_up: disconnects the client, for a reason that is logged.
        is_cut: returns whether the client has gone although its connection has not ended here. Of
            the frames written then, some arrive and others do not.
    """

    __slots__ = (
        "_frames",
        "_gathered",
        "_is_blocked",
        "_latest",
        "_max_buffered",
        "_readers",
        "_replaced",
        "_size",
        "_spared",
        "_transport",
        "give_up",
        "is_congested",
        "is_cut",
        "is_slow",
        "mark",
        "put",
        "unwritten",
        "write",
        "write_joined",
    )

    def __init__(
        self,
        transport: Transport,
        put: Callable[[bytes], None],
        max_buffered: int,
        give_up: Callable[[str], None],
        readers: SlowReaders,
    ) -> None:
        self._transport = transport
        self._max_buffered = max_buffered
        self._readers = readers
        self.give_up = give_up
        self._frames: deque[_Held] | None = None
        self._gathered: list[bytes] | None = None
        self._latest: dict[str, _Held] | None = None  # the newest frame of each policy among them
        self._replaced = 0  # the frames among them that are empty
        self._size = 0
        self._spared = 0
        self._is_blocked = False
        self.is_slow = False
        self.is_congested = False
        self.mark = 0
        self.unwritten = 0
        self.put = self.write = put
        self.write_joined: Callable[[bytes], None] | None
        self._choose_joined()
        self.is_cut = transport.is_cut

    def control(self, payload: bytes) -> None:
        """Write a frame of the protocol at once, even while others wait."""
        if self.put is not _nowhere:
            self._transport.write(payload)

    def reroute(self, before: Callable[[bytes], None], put: Callable[[bytes], None]) -> None:
        """Write by `put` from now on, if the queue has written by `before`."""
        if self.put is before:
            if self.is_clear:
                self.write = put
            self.put = put
            self._choose_joined()

    def gather(self) -> None:
        """Gather the frames that are written until `write_gathered`, if nothing is in their way."""
        if self.write_joined is not None:
            self._gathered = []
            self.put = self.write = self._gathered.append
            self.write_joined = None

    def write_gathered(self) -> None:
        """Write the frames that were gathered, `JOINED_BYTES` of them at most, in one write."""
        gathered, self._gathered = self._gathered, None
        if gathered is None or self.put is _nowhere:
            return
        self.put = self._transport.write
        self._choose()
        if len(gathered) > 1 and self._transport.write_joined is not None:
            self._transport.write_joined(joined(gathered))
            return
        for payload in gathered:
            self.put(payload)

    def offer(self, policy: str, payload: bytes) -> bool:
        """Write a frame that may be dropped or replaced where something else waits for the client.

        Returns:
            Whether it is written, or waits; False if it was dropped.
        """
        if self.put is _nowhere or (self.is_clear and not self._transport.buffered):
            self.write(payload)
        elif policy == VOLATILE:
            self._readers.skipped[VOLATILE] += 1
            return False
        else:
            if self.is_clear:
                self._transport.hold_back()
            self._replace(policy)
            self._hold(payload, policy)
        return True

    @property
    def is_clear(self) -> bool:
        """Whether a frame would be written at once."""
        return self.write is self.put

    def check_room(self) -> bool:
        """Disconnect the client if more bytes wait for it than may; return whether there is room."""
        size = self._transport.buffered + self._size
        if size <= self._max_buffered + self._spared:
            return True
        if self.put is not _nowhere:
            self._readers.closed["max_buffered"] += 1
            self.give_up(f"{size} bytes wait to be read")
        return False

    def measure(self) -> int:
        """Return the bytes of memory that wait for the client."""
        return self._transport.memory + self._size + self.unwritten

    def recount(self) -> None:
        """Have what waits counted for the node; this may close this client, or others."""
        size = self.measure()
        self.is_slow = size > 0
        if self.put is _nowhere:
            self._readers.closing(self, size)
        else:
            self._readers.count(self, size)

    def congested(self, *, by_page: bool = False) -> None:
        """Queue every frame until `relieved`.

        Args:
            by_page: whether the frame written last was read from the backend. A stored message may be
                larger than `max_buffered`, or it would never arrive; so bytes that wait now do not count.
        """
        self._spared = self._transport.buffered if by_page else 0
        self.is_congested = True
        self._choose()

    def relieved(self) -> None:
        """Write the frames that wait, now that the client reads again, unless the queue is blocked."""
        self.is_congested = False
        self._spared = 0
        if not self._is_blocked:
            self.unblock()

    def block(self) -> None:
        """Queue every frame until `unblock`, because stored messages go first."""
        self._is_blocked = True
        self._choose()

    def unblock(self) -> None:
        """Write the frames that wait, as far as the client reads: no stored message is missing."""
        self._is_blocked = False
        self.mark = 0
        self._release(None)

    def follow(self, sequence: int, *, is_first: bool = False) -> None:
        """Mark later frames as following a stored message; with `is_first`, those that wait as well."""
        self.mark = max(self.mark, sequence)
        if is_first and self._frames:
            for held in self._frames:
                held.mark = sequence

    def release_before(self, sequence: int) -> Callable[[bytes], None] | None:
        """Write the frames that follow only messages before `sequence`.

        Returns:
            The `write_joined` of the transport for the next ones; None if each has to be `put` by itself.
        """
        if self._frames:
            self._release(sequence)
        is_direct = not self._frames and self.put == self._transport.write
        return self._transport.write_joined if is_direct else None

    def flush(self) -> None:
        """Write every frame that waits, also to a slow client: the last step before a close."""
        self.write_gathered()
        frames, self._frames, self._size = self._frames or (), None, 0
        for held in frames:
            if held.payload:
                self.put(held.payload)

    def drop(self) -> None:
        """Drop the frames that wait."""
        self._frames, self._latest, self._size, self._replaced = None, None, 0, 0

    def close(self) -> None:
        """Drop the frames that wait, and ignore later ones."""
        self._frames, self._latest, self._size, self.unwritten = None, None, 0, 0
        self.put = self.write = _nowhere
        self.write_joined = None
        self.give_up = _ignore  # a method of the connection would keep it in a cycle
        if self.is_slow:
            self.recount()

    def ended(self) -> None:
        """Count nothing any more: the transport is closed."""
        self._readers.closing(self, 0)

    def cut(self) -> None:
        """End the connection at once, and free what waits for it."""
        self._transport.cut()

    def _release(self, before: int | None) -> None:
        frames, had = self._frames, self._size
        while frames and not self.is_congested and (before is None or frames[0].mark < before):
            held = frames.popleft()
            self._size -= len(held.payload) + FRAME_COST
            if held.payload:
                if self._latest and self._latest.get(held.policy) is held:
                    del self._latest[held.policy]
                self.put(held.payload)
            else:
                self._replaced -= 1
        if not frames:
            self._frames = None
        self._choose()
        if had:
            self.recount()

    def _choose(self) -> None:
        if self.put is not _nowhere:
            waits = self.is_congested or self._is_blocked or self._frames
            self.write = self._hold if waits else self.put
            self._choose_joined()

    def _choose_joined(self) -> None:
        self.write_joined = self._transport.write_joined if self.write == self._transport.write else None

    def _replace(self, policy: str) -> None:
        """Empty the frame that waits with this policy: the newest one comes last, in its order."""
        held = self._latest and self._latest.get(policy)
        if not held or self._frames is None:
            return
        self._size -= len(held.payload)
        held.payload = b""
        self._replaced += 1
        self._readers.skipped["latest"] += 1
        if self._replaced > len(self._frames) // 2:
            frames = [held for held in self._frames if held.payload]
            self._frames.clear()
            self._frames.extend(frames)
            self._size -= self._replaced * FRAME_COST
            self._replaced = 0

    def _hold(self, payload: bytes, policy: str = "") -> None:
        if self._frames is None:
            self._frames = deque()
        held = _Held(self.mark, payload, policy)
        self._frames.append(held)
        if policy:
            self._latest = self._latest or {}
            self._latest[policy] = held
        self._size += len(payload) + FRAME_COST
        if self.check_room():
            if not self.is_congested and (self._size > MAX_HELD_BYTES or len(self._frames) > MAX_HELD_FRAMES):
                self.give_up(f"{len(self._frames)} messages wait for the backend")
            else:
                self.recount()


def _ignore(why: str) -> None:
    """Give up nothing: the connection has ended."""


def _nowhere(payload: bytes) -> None:
    """Drop a frame for a connection that has ended; callers of `Connection.send` get an error."""
