"""A queue that a portal owns, and what it has read of it."""

import asyncio
from collections import deque

from ..backend.inbox import Waiting

MAX_WAITING = 4000
"""Letters of one queue that are read before they can be handled."""

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of them, from which on no more are read."""

HAND_OVER = 30.0
"""Seconds that handlers get to finish when their queue is to be handed over."""


class Owned:
    """A queue, from the moment it was taken until it is lost or let go of; in one event loop.

    Letters of one connection form a line; each line is worked on by a task of its own.

    Args:
        number: which queue.
        token: by which it is owned.

    Attributes:
        number: which queue.
        token: by which it is owned.
        cursor: the place up to which it was read.
        lines: connection -> its letters; the first is the one that is being handled.
        tasks: who works on the lines.
        waiting: letters in all lines.
        size: bytes of them.
        unsettled: steps that the backend has not answered.
    """

    def __init__(self, number: int, token: int) -> None:
        self.number = number
        self.token = token
        self.cursor = ""
        self.lines: dict[str, deque[Waiting]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiting = 0
        self.size = 0
        self.unsettled = 0
        self._closed = asyncio.Event()
        self._due = 0.0

    @property
    def is_open(self) -> bool:
        """Whether handling of another letter may begin."""
        return not self._closed.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being handled, and all that was is noted."""
        return not self.tasks and not self.unsettled

    @property
    def is_overdue(self) -> bool:
        """Whether it was closed so long ago that others shall not wait for its handlers any more."""
        return not self.is_open and asyncio.get_running_loop().time() >= self._due

    @property
    def has_room(self) -> bool:
        """Whether more may be read."""
        return self.is_open and self.waiting < MAX_WAITING and self.size < MAX_BYTES

    def close(self) -> None:
        """Begin nothing any more; what is being handled goes on."""
        if self.is_open:
            self._due = asyncio.get_running_loop().time() + HAND_OVER
        self._closed.set()

    async def closes_within(self, seconds: float) -> None:
        """Wait for some time, or until it is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return
