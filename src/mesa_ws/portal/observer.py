"""Seeing everything, and taking nothing away from others."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from ..backend.inbox import Attendance, Waiting
from ..concurrency.tasks import persist, start
from ..errors import BackendError

MAX_WAITING = 10_000
"""Letters that are read before they can be handled."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of them, from which on no more are read."""

PAUSE = 0.5
"""Seconds until reading is tried again."""

log = logging.getLogger("mesa_ws.portal")


class Observer:
    """Has every letter handled that comes from now on, once, in order for each connection.

    Args:
        attendance: the portal's seat.
        handle: has a letter handled; must not raise.
        concurrency: letters that are handled at the same time.
    """

    def __init__(
        self, attendance: Attendance, handle: Callable[[Waiting], Awaitable[None]], concurrency: int
    ) -> None:
        self._attendance = attendance
        self._handle = handle
        self._slots = asyncio.Semaphore(concurrency)
        self._lines: dict[str, deque[Waiting]] = {}
        self._place = ""
        self._waiting = 0
        self._size = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """See what comes from now on.

        Raises:
            BackendError: the backend did not answer.
        """
        self._place, letters = await self._attendance.overhear("")
        self._take(letters)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            if self._waiting >= MAX_WAITING or self._size >= MAX_BYTES:
                await asyncio.wait(self.tasks, return_when=asyncio.FIRST_COMPLETED)
            try:
                self._place, letters = await self._attendance.overhear(self._place)
            except BackendError as error:
                log.debug("reading failed, once more: %s", error)
                await asyncio.sleep(PAUSE)
            else:
                self._take(letters)

    def _take(self, letters: list[Waiting]) -> None:
        for waiting in letters:
            self._waiting += 1
            self._size += len(waiting.letter.data)
            connection_id = waiting.letter.connection_id
            if connection_id in self._lines:
                self._lines[connection_id].append(waiting)
                continue
            line = self._lines[connection_id] = deque((waiting,))
            task = start(persist(partial(self._work, connection_id, line)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _work(self, connection_id: str, line: deque[Waiting]) -> None:
        while line:
            async with self._slots:
                await self._handle(line[0])
            self._size -= len(line.popleft().letter.data)
            self._waiting -= 1
        del self._lines[connection_id]
