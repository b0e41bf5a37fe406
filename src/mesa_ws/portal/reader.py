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

LOOK_BACK = 5.0
"""Seconds between two looks at the start of queues that seem empty."""

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
        self._looked_back = 0.0

    async def run(self) -> None:
        """Read for ever."""
        while True:
            try:
                await self._read()
            except BackendError as error:
                log.debug("reading failed, once more: %s", error)
                await asyncio.sleep(random.uniform(PAUSE / 2, PAUSE))  # noqa: S311 - spreads load

    async def _read(self) -> None:
        self._look_back(asyncio.get_running_loop().time())
        owned = {number: each for number, each in self._holdings.owned.items() if each.has_room}
        if not owned:
            await asyncio.sleep(IDLE)
            return
        for waiting in await self._attendance.read({number: each.cursor for number, each in owned.items()}):
            each = owned[waiting.letter.partition]
            if each.is_open:
                self._desk.take(each, waiting)

    def _look_back(self, now: float) -> None:
        """Now and then, read queues of which nothing is being handled from their start.

        A backend that lost what it held, and whose clock is behind that of its predecessor, gives
        places that are lower than those before. What has been dealt with is not there any more.
        """
        if now - self._looked_back < LOOK_BACK:
            return
        self._looked_back = now
        for owned in self._holdings.owned.values():
            if owned.is_idle:
                owned.cursor = ""
