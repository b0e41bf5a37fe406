"""The receive queue of one connection, and back-pressure: reading stops while the queue is full.

While a client owes an answer, the server reads it nevertheless, because a handler may wait for just
that answer, and nothing behind the handler would ever be handled. Even then at most `PATIENCE` times as
many events may wait as usual; beyond that, the request has to time out.

The server cannot notice the close of a client that it does not read, and the client's deadlines are
suspended. So it asks the operating system from time to time whether the client is still there. It cuts
one that is gone. One that has finished sending gets time for its messages to be read and handled, and is
cut then.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from ..protocol import ServerProtocol
from ..settings import Keepalive
from .event_loop import Spawn
from .send_queue import PeerState, Transport


class ReceiveQueue:
    """Handle the events of one connection in order.

    The task that handles them exists only while there are events.

    Args:
        spawn: runs the task.
        handle: handles one event.
        most: events after which reading should stop.
        regulate: called when that many wait, for each event added then, and again when half of them
            are handled.

    Attributes:
        most: see above.
        is_full: whether that many wait, or did and more than half of them still do.
    """

    __slots__ = ("_handle", "_queue", "_regulate", "_spawn", "_worker", "is_full", "most")

    def __init__(
        self,
        spawn: Spawn,
        handle: Callable[[object], Awaitable[None]],
        most: int,
        regulate: Callable[[], None],
    ) -> None:
        self._spawn = spawn
        self._handle = handle
        self.most = most
        self._regulate = regulate
        self._queue: deque[object] | None = None
        self._worker: asyncio.Task[None] | None = None
        self.is_full = False

    @property
    def waiting(self) -> int:
        """Number of events that wait."""
        return len(self._queue) if self._queue else 0

    def add(self, event: object) -> None:
        """Add an event, to be handled after all earlier ones."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if self._worker is None:
            self._worker = self._spawn(self._work())
        if self.is_full or len(self._queue) >= self.most:
            self.is_full = True
            self._regulate()

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
                if self.is_full and len(self._queue) <= self.most // 2:
                    self.is_full = False
                    self._regulate()
        finally:
            self._queue = None
            self._worker = None


log = logging.getLogger("mesa_ws.server")

PATIENCE = 8
"""Times as many events as usual may wait while the client owes an answer."""

LOOKS = 5
"""Checks of a client that is not read, in each `interval` of the keepalive."""


class FlowControl:
    """Pause and resume the reading of one client. For the event loop only.

    Args:
        transport: reads.
        protocol: its deadlines are suspended while reading is paused.
        keepalive: how soon the server has to notice that a client is gone.
        now: returns the event loop's time.
        changed: called after reading was paused or resumed, because `deadline` has changed.
    """

    __slots__ = (
        "_changed",
        "_finished_at",
        "_is_paused",
        "_keepalive",
        "_look_at",
        "_now",
        "_protocol",
        "_transport",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: ServerProtocol,
        keepalive: Keepalive,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._keepalive = keepalive
        self._now = now
        self._changed = changed
        self._is_paused = False
        self._look_at = 0.0
        self._finished_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """Time at which `look` or the protocol has something to do; None for never."""
        return self._look_at if self._is_paused else self._protocol.deadline

    def regulate(self, queue: ReceiveQueue, *, owes_answer: bool) -> None:
        """Pause or resume reading, as the queue demands.

        Args:
            queue: events that wait for the handlers.
            owes_answer: whether a request to the client is pending.
        """
        has_patience = owes_answer and queue.waiting < PATIENCE * queue.most
        is_paused = queue.is_full and not has_patience
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        now = self._now()
        if is_paused:
            self._protocol.suspend(now)
            self._transport.pause_reading()
            if self._look_at <= now:  # otherwise a client that is paused again and again is never checked
                self._look_at = now + self._keepalive.interval / LOOKS
        else:
            self._protocol.resume(now)
            self._transport.resume_reading()
        self._changed()

    def look(self) -> None:
        """Check, if it is time, whether a client that is not read is still there; cut it if it is gone."""
        now = self._now()
        if not self._is_paused or now < self._look_at:
            return
        self._look_at = now + self._keepalive.interval / LOOKS
        state = self._transport.peer_state()
        if state is PeerState.PRESENT:
            return
        if self._finished_at is None:
            self._finished_at = now
        silence = self._keepalive.interval + self._keepalive.timeout
        if state is PeerState.GONE or now >= self._finished_at + silence:
            log.debug("cutting a client that has gone while reading was paused")
            self._transport.cut()
