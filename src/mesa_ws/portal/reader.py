"""Reading the queues that are owned, in their order."""

import asyncio
import logging
import random

from ..backend.inbox import Attendance
from ..errors import BackendError
from .desk import Desk
from .holdings import Holdings

IDLE = 0.02
"""Seconds until somebody who can read nothing looks again."""

PAUSE = 0.5
"""Seconds, at most, until reading is tried again."""

log = logging.getLogger("mesa_ws.portal")


class Reader:
    """Brings letters to the desk, no more than there is room for.

    Args:
        attendance: the portal's seat.
        holdings: what is owned.
        desk: where letters go.
    """

    def __init__(self, attendance: Attendance, holdings: Holdings, desk: Desk) -> None:
        self._attendance = attendance
        self._holdings = holdings
        self._desk = desk

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self._read()
            except BackendError as error:
                log.debug("reading failed, once more: %s", error)
                await asyncio.sleep(random.uniform(PAUSE / 2, PAUSE))  # noqa: S311 - spreads load

    async def _read(self) -> None:
        owned = {number: each for number, each in self._holdings.owned.items() if each.has_room}
        if not owned:
            await asyncio.sleep(IDLE)
            return
        for waiting in await self._attendance.read({number: each.cursor for number, each in owned.items()}):
            each = owned[waiting.letter.partition]
            if each.is_open:
                self._desk.take(each, waiting)
