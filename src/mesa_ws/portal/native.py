"""Work on Mesa's own wire: letters wait in queues until they were handled."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

from ..backend.inbox import PortalConsumer, WaitingEvent
from ..concurrency.tasks import Tasks, end, persist, start
from ..errors import BackendError
from ..messages.envelope import Envelope
from .assignment import Holdings
from .commits import Ledger
from .handling import Desk, Reader
from .source import Handle, See

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
        self, attendance: PortalConsumer, handle: Callable[[WaitingEvent], Awaitable[None]], concurrency: int
    ) -> None:
        self._attendance = attendance
        self._handle = handle
        self._slots = asyncio.Semaphore(concurrency)
        self._lines: dict[str, deque[WaitingEvent]] = {}
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

    def _take(self, letters: list[WaitingEvent]) -> None:
        for waiting in letters:
            self._waiting += 1
            self._size += len(waiting.event.data)
            connection_id = waiting.event.connection_id
            if connection_id in self._lines:
                self._lines[connection_id].append(waiting)
                continue
            line = self._lines[connection_id] = deque((waiting,))
            task = start(persist(partial(self._work, connection_id, line)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _work(self, connection_id: str, line: deque[WaitingEvent]) -> None:
        while line:
            async with self._slots:
                await self._handle(line[0])
            self._size -= len(line.popleft().event.data)
            self._waiting -= 1
        del self._lines[connection_id]


PATIENCE = 1.0
"""Seconds that tasks which were cancelled get to end."""


class _Lasting:
    """What both kinds of lasting work do alike.

    Args:
        attendance: the portal's seat.
    """

    def __init__(self, attendance: PortalConsumer) -> None:
        self._attendance = attendance
        self._tasks = Tasks("portal")

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        return self._attendance.portal_id

    @property
    def dropped(self) -> int:
        """None: what cannot be handled yet is left in its queue."""
        return 0

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection of one node; see `PortalConsumer.reply`."""
        return await self._attendance.reply(envelope, node)

    async def _stop_reading(self) -> None:
        await self._tasks.aclose(PATIENCE)


class Sharing(_Lasting):
    """Owns a share of the queues, and has what is in them handled, at least once.

    Args:
        attendance: the portal's seat.
        handle: see `Handle`.
        concurrency: letters that are handled at the same time.
        lease: seconds without a sign of life after which others take over.
    """

    def __init__(self, attendance: PortalConsumer, handle: Handle, concurrency: int, lease: float) -> None:
        super().__init__(attendance)
        self._takes_part = False
        self._ledger = Ledger(attendance)
        self._holdings = Holdings(attendance, self._ledger, lease)
        self._desk = Desk(self._ledger, handle, concurrency)
        self._reader = Reader(attendance, self._holdings, self._desk)

    @property
    def queues(self) -> tuple[int, ...]:
        """Which queues are owned now."""
        return tuple(sorted(number for number, each in self._holdings.owned.items() if each.is_open))

    async def start(self) -> None:
        """Own what should be owned, and read it."""
        await self._holdings.tend()
        self._takes_part = True
        self._tasks.start(self._holdings.run, "heart")
        self._tasks.start(self._reader.run, "reader")

    async def finish(self) -> None:
        """Begin nothing more, and hand over each queue when nothing of it is being handled."""
        await self._stop_reading()
        await self._holdings.leave()

    async def aclose(self) -> None:
        """Let go of everything; what was not finished is handled again, by another portal."""
        await self._stop_reading()
        await self._ledger.aclose()
        await self._desk.aclose(PATIENCE)
        if self._takes_part:
            with suppress(BackendError):
                await self._holdings.depart()
        await self._attendance.aclose()


class Observing(_Lasting):
    """Has handled what everybody's queues get, each letter once at most.

    Args:
        attendance: the portal's seat.
        see: see `See`.
        concurrency: letters that are handled at the same time.
    """

    def __init__(self, attendance: PortalConsumer, see: See, concurrency: int) -> None:
        super().__init__(attendance)
        self._observer = Observer(attendance, see, concurrency)

    @property
    def queues(self) -> tuple[int, ...]:
        """None: it takes nothing from others."""
        return ()

    async def start(self) -> None:
        """See what comes from now on."""
        await self._observer.begin()
        self._tasks.start(self._observer.run, "observer")

    async def finish(self) -> None:
        """Look no more, and wait for what is being handled."""
        await self._stop_reading()
        if self._observer.tasks:
            await asyncio.wait(self._observer.tasks)

    async def aclose(self) -> None:
        """Give up what is still being handled."""
        await self._stop_reading()
        for task in self._observer.tasks:
            end(task)
        await self._attendance.aclose()
