"""Back-pressure: the server stops reading a client while its receive queue is full.

While a client owes an answer, the server reads it nevertheless, because a handler may wait for just
that answer, and nothing behind the handler would ever be handled. Even then at most `PATIENCE` times as
many events and bytes may wait as usual; beyond that, the request has to time out.

The server cannot notice the close of a client that it does not read, and the client's deadlines are
suspended. So it asks the operating system from time to time whether the client is still there. It cuts
one that is gone. One that has finished sending gets time for its messages to be read and handled, and is
cut then.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..protocol.server import ServerProtocol
from ..settings import Keepalive
from .send_queue import PeerState, Transport

log = logging.getLogger("mesa_ws.server")

PATIENCE = 8
"""Times as many events and bytes as usual may wait while the client owes an answer."""

LOOKS = 5
"""Checks of a client that is not read, in each `interval` of the keepalive."""


class Load(NamedTuple):
    """Events of one client that wait, and the bytes of the frames among them; or as many as may wait."""

    events: int
    size: int

    def is_too_much(self, most: "Load", times: int = 1) -> bool:
        """Whether reading should stop."""
        return self.events >= times * most.events or self.size > times * most.size

    def is_little(self, most: "Load") -> bool:
        """Whether reading may go on."""
        return self.events <= most.events // 2 and self.size <= most.size // 2


@dataclass(slots=True, eq=False)
class FlowControl:
    """Pause and resume the reading of one client. For the event loop only.

    Attributes:
        transport: reads.
        protocol: its deadlines are suspended while reading is paused.
        keepalive: how soon the server has to notice that a client is gone.
        most: events and bytes after which reading should stop.
        now: returns the event loop's time.
        changed: called after reading was paused or resumed, because `deadline` has changed.
        is_full: whether that much waits, or did and more than half of it still does.
        is_paused: whether reading is paused.
        finished_at: when the client was first found to have finished sending; None before.
    """

    transport: Transport
    protocol: ServerProtocol
    keepalive: Keepalive
    most: Load
    now: Callable[[], float]
    changed: Callable[[], None]
    is_full: bool = False
    is_paused: bool = False
    finished_at: float | None = None
    _look_at: float = 0.0

    @property
    def deadline(self) -> float | None:
        """Time at which `look` or the protocol has something to do; None for never."""
        due = self.protocol.deadline
        if not self.is_paused:
            return due
        return self._look_at if due is None else min(self._look_at, due)

    def regulate(self, waiting: Load, *, owes_answer: bool) -> None:
        """Pause or resume reading, as the queue demands."""
        if waiting.is_too_much(self.most):
            self.is_full = True
        elif waiting.is_little(self.most):
            self.is_full = False
        has_patience = owes_answer and not waiting.is_too_much(self.most, PATIENCE)
        is_paused = self.is_full and not has_patience
        if is_paused == self.is_paused:
            return
        self.is_paused = is_paused
        now = self.now()
        if is_paused:
            self.protocol.suspend(now)
            self.transport.pause_reading()
            if self._look_at <= now:  # otherwise a client that is paused again and again is never checked
                self._look_at = now + self.keepalive.interval / LOOKS
        else:
            self.protocol.resume(now)
            self.transport.resume_reading()
        self.changed()

    def look(self) -> None:
        """Check, if it is time, whether a client that is not read is still there; cut it if it is gone."""
        now = self.now()
        if not self.is_paused or now < self._look_at:
            return
        self._look_at = now + self.keepalive.interval / LOOKS
        state = self.transport.peer_state()
        if state is PeerState.PRESENT:
            return
        if self.finished_at is None:
            self.finished_at = now
        silence = self.keepalive.interval + self.keepalive.timeout
        if state is PeerState.GONE or now >= self.finished_at + silence:
            log.debug("cutting a client that has gone while reading was paused")
            self.transport.cut()
