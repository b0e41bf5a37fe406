"""Whether a client is read: not while too much of it waits for its handlers.

While a client owes an answer it is read all the same, because a handler may wait for just that,
and nothing behind it would ever be handled. Even then no more than `PATIENCE` times as much may
wait as else; beyond, the request has to run out of time.

A client that is not read cannot be heard leaving, and its deadlines are suspended. So the system is
asked from time to time whether it is still there. One that is gone is cut. One that has finished
sending gets time for what it sent to be read and handled, and is cut then.
"""

import logging
from collections.abc import Callable

from ..session import ServerSession
from ..settings import Keepalive
from .transport import PeerState, Transport
from .turns import Turns

log = logging.getLogger("mesa_ws.server")

PATIENCE = 8

LOOKS = 5
"""Looks after a client that is not read, in each `interval` of the keepalive."""


class Flow:
    """Pauses and resumes the reading of one client. For the event loop only.

    Args:
        transport: reads.
        session: whose deadlines are suspended while reading is paused.
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
        "_session",
        "_transport",
    )

    def __init__(
        self,
        transport: Transport,
        session: ServerSession,
        keepalive: Keepalive,
        now: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._session = session
        self._keepalive = keepalive
        self._now = now
        self._changed = changed
        self._is_paused = False
        self._look_at = 0.0
        self._finished_at: float | None = None

    @property
    def deadline(self) -> float | None:
        """When `look` has something to do, or else the session; None for never."""
        return self._look_at if self._is_paused else self._session.deadline

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
            self._session.suspend(now)
            self._transport.pause_reading()
            if self._look_at <= now:  # or else a client that is paused again and again is never looked after
                self._look_at = now + self._keepalive.interval / LOOKS
        else:
            self._session.resume(now)
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
