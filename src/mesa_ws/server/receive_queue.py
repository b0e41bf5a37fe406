"""What a client caused, waiting for its turn: handled one after another, in order.

Whether a client is read: not while too much of it waits for its handlers.

While a client owes an answer it is read all the same, because a handler may wait for just that,
and nothing behind it would ever be handled. Even then no more than `PATIENCE` times as much may
wait as else; beyond, the request has to run out of time.

A client that is not read cannot be heard leaving, and its deadlines are suspended. So the system is
asked from time to time whether it is still there. One that is gone is cut. One that has finished
sending gets time for what it sent to be read and handled, and is cut then.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from ..protocol import ServerProtocol
from ..settings import Keepalive
from .send_queue import PeerState, Transport

Spawn = Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]


class Turns:
    """A queue with a task that works on it, which exists only while there is something to do.

    Args:
        spawn: runs the task.
        handle: handles one event.
        most: events after which no more shall come.
        flow: called when that many wait and for each that is added then, and again when half of
            them are done.

    Attributes:
        most: see above.
        is_full: whether that many wait, or did and half of them still do.
    """

    __slots__ = ("_flow", "_handle", "_queue", "_spawn", "_worker", "is_full", "most")

    def __init__(
        self,
        spawn: Spawn,
        handle: Callable[[object], Awaitable[None]],
        most: int,
        flow: Callable[[], None],
    ) -> None:
        self._spawn = spawn
        self._handle = handle
        self.most = most
        self._flow = flow
        self._queue: deque[object] | None = None
        self._worker: asyncio.Task[None] | None = None
        self.is_full = False

    @property
    def waiting(self) -> int:
        """Events that wait for their turn."""
        return len(self._queue) if self._queue else 0

    def add(self, event: object) -> None:
        """Let `event` be handled after all before it."""
        if self._queue is None:
            self._queue = deque()
        self._queue.append(event)
        if self._worker is None:
            self._worker = self._spawn(self._work())
        if self.is_full or len(self._queue) >= self.most:
            self.is_full = True
            self._flow()

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._handle(self._queue.popleft())
                if self.is_full and len(self._queue) <= self.most // 2:
                    self.is_full = False
                    self._flow()
        finally:
            self._queue = None
            self._worker = None


log = logging.getLogger("mesa_ws.server")

PATIENCE = 8

LOOKS = 5
"""Looks after a client that is not read, in each `interval` of the keepalive."""


class Flow:
    """Pauses and resumes the reading of one client. For the event loop only.

    Args:
        transport: reads.
        protocol: whose deadlines are suspended while reading is paused.
        keepalive: says how soon a client that is gone has to be noticed.
        now: tells the time.
        changed: called after reading was paused or resumed, for `deadline` is another then.
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
        """When `look` has something to do, or else the protocol; None for never."""
        return self._look_at if self._is_paused else self._protocol.deadline

    def regulate(self, turns: Turns, *, owes_answer: bool) -> None:
        """Pause or go on, as it has to be now.

        Args:
            turns: what waits for the handlers.
            owes_answer: whether an answer of the client is waited for.
        """
        has_patience = owes_answer and turns.waiting < PATIENCE * turns.most
        is_paused = turns.is_full and not has_patience
        if is_paused == self._is_paused:
            return
        self._is_paused = is_paused
        now = self._now()
        if is_paused:
            self._protocol.suspend(now)
            self._transport.pause_reading()
            if self._look_at <= now:  # or else a client that is paused again and again is never looked after
                self._look_at = now + self._keepalive.interval / LOOKS
        else:
            self._protocol.resume(now)
            self._transport.resume_reading()
        self._changed()

    def look(self) -> None:
        """See whether a client that is not read is still there, if it is time; cut it if it is not."""
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
            log.debug("cutting a client that has gone while it was not read")
            self._transport.cut()
