"""Whether a client is read: not while too much of it waits for its handlers.

While a client owes an answer it is read all the same, because a handler may wait for just that,
and nothing behind it would ever be handled. Even then no more than `PATIENCE` times as much may
wait as else; beyond, the request has to run out of time.
"""

from collections.abc import Callable

from ..session import ServerSession
from .transport import Transport
from .turns import Turns

PATIENCE = 8


class Flow:
    """Pauses and resumes the reading of one client. For the event loop only.

    Args:
        transport: reads.
        session: whose deadlines are suspended meanwhile.
        now: tells the time.
        resumed: called when reading goes on.
    """

    __slots__ = ("_is_paused", "_now", "_resumed", "_session", "_transport")

    def __init__(
        self,
        transport: Transport,
        session: ServerSession,
        now: Callable[[], float],
        resumed: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._session = session
        self._now = now
        self._resumed = resumed
        self._is_paused = False

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
        if is_paused:
            self._session.suspend(self._now())
            self._transport.pause_reading()
        else:
            self._session.resume(self._now())
            self._transport.resume_reading()
            self._resumed()
