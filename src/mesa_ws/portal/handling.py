"""Having letters handled: those of one connection one after another, those of others meanwhile."""

import asyncio
import logging
import random
from collections import deque
from functools import partial

from ..backend.inbox import PortalConsumer, WaitingEvent
from ..concurrency.left_behind import report_tasks
from ..concurrency.tasks import end, persist, start
from ..errors import BackendError
from .assignment import Holdings
from .commits import Ledger, Owned
from .source import Handle

MAX_DELIVERIES = 5
"""Deliveries after which a letter is given up."""

FIRST_PAUSE = 0.1
"""Seconds until a letter whose handler raised is handled again; three times as long each time."""

DIED = "the process of its portal ended while it was handled"

log = logging.getLogger("mesa_ws.portal")


class Desk:
    """Works on the letters of queues that are owned.

    Args:
        ledger: takes note.
        handle: see `Handle`.
        concurrency: letters that are handled at the same time.
    """

    def __init__(self, ledger: Ledger, handle: Handle, concurrency: int) -> None:
        self._ledger = ledger
        self._handle = handle
        self._slots = asyncio.Semaphore(concurrency)
        self._tasks: set[asyncio.Task[None]] = set()  # also of queues that were lost meanwhile

    def take(self, owned: Owned, waiting: WaitingEvent) -> None:
        """Let a letter be handled after all before it of the same connection."""
        owned.cursor = waiting.offset
        owned.waiting += 1
        owned.size += len(waiting.event.data)
        connection_id = waiting.event.connection_id
        line = owned.lines.get(connection_id)
        if line is not None:
            line.append(waiting)
            return
        line = owned.lines[connection_id] = deque((waiting,))
        task = start(persist(partial(self._work, owned, connection_id, line)))
        for tasks in (self._tasks, owned.tasks):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def aclose(self, timeout: float) -> None:
        """Let nothing be handled any more; what does not end in so many seconds goes on."""
        for task in self._tasks:
            end(task)
        if self._tasks:
            _, stuck = await asyncio.wait(self._tasks, timeout=timeout)
            report_tasks(log, stuck)

    async def _work(self, owned: Owned, connection_id: str, line: deque[WaitingEvent]) -> None:
        while line and await self._deal(owned, line[0]):
            owned.size -= len(line.popleft().event.data)
            owned.waiting -= 1
        if not line:
            del owned.lines[connection_id]

    async def _deal(self, owned: Owned, waiting: WaitingEvent) -> bool:
        """Deal with a letter; returns False if that is left to whoever owns the queue next."""
        pause = FIRST_PAUSE
        while owned.is_open:
            async with self._slots:
                deliveries = await self._begin(owned, waiting)
                if deliveries < 0:
                    return False
                reason = await self._deliver(owned, waiting, deliveries)
            if reason is None:
                return True
            if deliveries >= MAX_DELIVERIES:
                self._give_up(owned, waiting, reason)
                return True
            await owned.closes_within(pause)
            pause *= 3
        return False

    async def _begin(self, owned: Owned, waiting: WaitingEvent) -> int:
        """Count a delivery, unless the queue was closed while this one waited for a slot."""
        return await self._ledger.begin(owned, waiting) if owned.is_open else -1

    async def _deliver(self, owned: Owned, waiting: WaitingEvent, deliveries: int) -> str | None:
        """Hand a letter to handlers, unless it was begun too often; returns why that failed."""
        if deliveries > MAX_DELIVERIES:
            return DIED
        handled = await self._handle(waiting, deliveries)
        if handled.failure is None:
            settle = self._ledger.reject if handled.is_rejected else self._ledger.done
            settle(owned, waiting, handled.message_ids)
        return handled.failure

    def _give_up(self, owned: Owned, waiting: WaitingEvent, reason: str) -> None:
        letter = waiting.event
        log.error("%s %s becomes a dead letter: %s", letter.kind, letter.key, reason)
        self._ledger.die(owned, waiting, reason)


IDLE = 0.02
"""Seconds until somebody who can read nothing looks again."""

PAUSE = 0.5
"""Seconds, at most, until reading is tried again."""

LOOK_BACK = 5.0
"""Seconds between two looks at the start of queues that seem empty."""


class Reader:
    """Brings letters to the desk, no more than there is room for.

    Args:
        attendance: the portal's seat.
        holdings: what is owned.
        desk: where letters go.
    """

    def __init__(self, attendance: PortalConsumer, holdings: Holdings, desk: Desk) -> None:
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
            each = owned[waiting.event.partition]
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
