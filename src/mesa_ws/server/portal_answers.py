"""Requests of clients that portals were asked, each until its one answer comes."""

import asyncio
import logging
from itertools import count
from typing import NamedTuple

from ..failure import Failure
from ..inquiry import Reply

log = logging.getLogger("mesa_ws.server")

PATIENCE = 600.0
"""Seconds after which a request that no portal answered has failed; clients wait less, as a rule."""

_NOBODY = Failure("failed", "no portal has answered in time")

Awaited = asyncio.Future[bytes | Failure]
"""The encoded message that answers a request, or why there is none; cancelled once nobody waits."""


class Expected(NamedTuple):
    """A request that a portal is about to be asked.

    Attributes:
        token: names it to portals.
        answer: done when a portal has answered, or time is over.
    """

    token: str
    answer: Awaited


class PortalAnswers:
    """What the connections of one node wait for. For the event loop only.

    Args:
        most: requests of one connection at a time.

    Attributes:
        most: see above.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._tokens = count(1)
        self._open: dict[str, dict[str, Awaited]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._open.values()))

    def expect(self, connection_id: str) -> Expected | None:
        """Wait for one more answer; None if the connection waits for as many as it may."""
        waiting = self._open.setdefault(connection_id, {})
        if len(waiting) >= self.most:
            return None
        loop, token = asyncio.get_running_loop(), str(next(self._tokens))
        answer: Awaited = loop.create_future()
        timer = loop.call_later(PATIENCE, self._settle, connection_id, token, _NOBODY)
        answer.add_done_callback(lambda _: timer.cancel())
        waiting[token] = answer
        return Expected(token, answer)

    def take(self, connection_id: str, body: bytes) -> None:
        """Take what a portal sent; the second answer, and one to nothing that waits, is ignored."""
        reply = Reply.read(body)
        if reply is None:
            log.warning("ignored an answer of a portal that cannot be read")
            return
        outcome = Failure(reply.code, reply.text) if reply.body is None else reply.body
        self._settle(connection_id, reply.request, outcome)

    def forget(self, connection_id: str) -> None:
        """The connection has ended, and nobody waits any more."""
        for answer in self._open.pop(connection_id, {}).values():
            answer.cancel()

    def _settle(self, connection_id: str, token: str, outcome: bytes | Failure) -> None:
        answer = self._open.get(connection_id, {}).pop(token, None)
        if answer is not None:
            answer.set_result(outcome)
