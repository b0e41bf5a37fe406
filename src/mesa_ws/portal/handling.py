"""Handling of owned queues: events of one connection in order, those of different ones at the same time."""

import asyncio
import logging

from ..backend.inbox import PortalConsumer, WaitingEvent
from ..concurrency.left_behind import report_tasks
from ..concurrency.retry import Backoff
from ..concurrency.tasks import end
from ..errors import BackendError
from .assignment import Assignment
from .commits import Commits, OwnedQueue
from .source import Handle

MAX_DELIVERIES = 5
"""Deliveries after which an event becomes a dead letter."""

FIRST_PAUSE = 0.1
"""Seconds until an event whose handler raised is handled again; three times as long each time."""

DIED = "the process of its portal ended while it was handled"

IDLE = 0.02
"""Seconds until the portal looks again whether there is a queue to read."""

PAUSE = 0.5
"""Seconds, at most, until reading is tried again."""

LOOK_BACK = 5.0
"""Seconds between two looks at the start of queues that seem empty."""

log = logging.getLogger("mesa_ws.portal")


class Handling:
    """Handles the events of owned queues.

    Args:
        commits: records what was begun and done.
        handle: calls the handlers of an event.
        concurrency: events that are handled at the same time, in all queues.
    """

    def __init__(self, commits: Commits, handle: Handle, concurrency: int) -> None:
        self._commits = commits
        self._handle = handle
        self._slots = asyncio.Semaphore(concurrency)
        self._queues: list[OwnedQueue] = []  # lost queues too, while their handlers run

    def own(self, number: int, token: int) -> OwnedQueue:
        """Return a queue whose events are handled here."""
        queue = OwnedQueue(number, token, self._handle_event)
        self._queues = [each for each in self._queues if each.is_open or not each.is_idle]
        self._queues.append(queue)
        return queue

    async def aclose(self, timeout: float) -> None:
        """Cancel all handling, and report the tasks that have not ended after so many seconds."""
        tasks = {task for queue in self._queues for task in queue.events.tasks}
        for task in tasks:
            end(task)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout)
            report_tasks(log, stuck)

    async def _handle_event(self, queue: OwnedQueue, waiting: WaitingEvent) -> None:
        """Deliver an event until it is handled; once the queue is closed, leave it to the next owner."""
        pause = FIRST_PAUSE
        while queue.is_open:
            async with self._slots:
                deliveries = await self._commits.begin(queue, waiting)
                if deliveries < 0:
                    return
                reason = await self._deliver(queue, waiting, deliveries)
            if reason is None:
                return
            if deliveries >= MAX_DELIVERIES:
                event = waiting.event
                log.error("%s %s becomes a dead letter: %s", event.kind, event.key, reason)
                self._commits.give_up(queue, waiting, reason)
                return
            await queue.closes_within(pause)
            pause *= 3

    async def _deliver(self, queue: OwnedQueue, waiting: WaitingEvent, deliveries: int) -> str | None:
        """Call the handlers of an event, unless it was delivered too often; return why that failed."""
        if deliveries > MAX_DELIVERIES:
            return DIED
        handled = await self._handle(waiting, deliveries)
        if handled.failure is None:
            commit = self._commits.reject if handled.is_rejected else self._commits.done
            commit(queue, waiting, handled.message_ids)
        return handled.failure


class Reader:
    """Reads the queues that a portal owns, no more than there is room for.

    Args:
        consumer: the portal's end of the inbox.
        assignment: knows which queues the portal owns.
    """

    def __init__(self, consumer: PortalConsumer, assignment: Assignment) -> None:
        self._consumer = consumer
        self._assignment = assignment
        self._looked_back = 0.0

    async def run(self) -> None:
        """Read; never ends."""
        backoff = Backoff(PAUSE, PAUSE)
        while True:
            try:
                await self._read()
            except BackendError as error:
                log.debug("cannot read events; trying again: %s", error)
                await asyncio.sleep(backoff.next())

    async def _read(self) -> None:
        self._look_back(asyncio.get_running_loop().time())
        queues = {number: queue for number, queue in self._assignment.owned.items() if queue.has_room}
        if not queues:
            await asyncio.sleep(IDLE)
            return
        offsets = {number: queue.cursor for number, queue in queues.items()}
        for waiting in await self._consumer.read(offsets):
            queue = queues[waiting.event.partition]
            if queue.is_open:
                queue.cursor = waiting.offset
                queue.events.put(waiting.event.connection_id, waiting, len(waiting.event.data))

    def _look_back(self, now: float) -> None:
        """Now and then, read queues of which no event is being handled from their start.

        A backend that lost its data, and whose clock is behind that of its predecessor, gives lower
        offsets than before. Events that were handled are not in the queue any more.
        """
        if now - self._looked_back < LOOK_BACK:
            return
        self._looked_back = now
        for queue in self._assignment.owned.values():
            if queue.is_idle:
                queue.cursor = ""
