"""Work on Mesa's own wire: letters wait in queues until they were handled."""

import asyncio
from contextlib import suppress

from ..backend.inbox import Attendance
from ..backend.supervised import Tasks
from ..concurrency.tasks import end
from ..envelope import Envelope
from ..errors import BackendError
from .desk import Desk
from .holdings import Holdings
from .ledger import Ledger
from .observer import Observer
from .reader import Reader
from .work import Handle, See

PATIENCE = 1.0
"""Seconds that tasks which were cancelled get to end."""


class _Lasting:
    """What both kinds of lasting work do alike.

    Args:
        attendance: the portal's seat.
    """

    def __init__(self, attendance: Attendance) -> None:
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
        """Hand a message to one connection of one node; see `Attendance.reply`."""
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

    def __init__(self, attendance: Attendance, handle: Handle, concurrency: int, lease: float) -> None:
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

    def __init__(self, attendance: Attendance, see: See, concurrency: int) -> None:
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
