"""Handling of owned queues: read their events, handle them, and record what was begun and done.

Events of one connection are handled in order, those of different connections at the same time. If there are
more than may be handled at once, ids have their turn one after another: a flood of one id delays that id. The
backend is far away, so many steps go in one call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import NamedTuple

from ..backend.inbox import READ_AHEAD, READ_AHEAD_BYTES, Action, PortalConsumer, Step, WaitingEvent
from ..concurrency.left_behind import report_tasks
from ..concurrency.queues import Batcher, FairSlots, KeyedQueues
from ..concurrency.retry import Backoff, LimitedWarning
from ..concurrency.tasks import end
from ..errors import BackendError

MAX_WAITING = READ_AHEAD
"""Events of one queue that are read before they can be handled."""

MAX_BYTES = READ_AHEAD_BYTES
"""Bytes of such events, from which on no more are read."""

HAND_OVER = 30.0
"""Seconds that handlers get to finish when another portal is to own their queue."""

MAX_DELIVERIES = 5
"""Deliveries after which an event becomes a dead letter."""

FIRST_PAUSE = 0.1
"""Seconds until an event whose handler raised is handled again; three times as long each time."""

MAX_STEPS = 500
"""Steps in one call."""

SETTLE_PAUSE = 0.05
LONGEST_SETTLE_PAUSE = 1.0
"""Seconds until a call that failed is repeated: the first time, and at most."""

IDLE = 0.02
"""Seconds until the portal looks again whether there is a queue to read."""

PAUSE = 0.5
"""Seconds, at most, until reading is tried again."""

LOOK_BACK = 5.0
"""Seconds between two looks at the start of queues that seem empty."""

UNREADABLE = (
    "entry %s of queue %d cannot be read and becomes a dead letter, as others like it: another program, or a "
    "later version of Mesa, wrote it; look at it with `mesa portal dead-letters list`, then retry or drop it"
)

log = logging.getLogger("mesa_ws.portal")


class Handled(NamedTuple):
    """Outcome of calling the handlers of an event.

    Attributes:
        failure: why the event has to be handled again; None if it has not.
        is_rejected: whether a handler has refused the event for good.
        message_ids: ids of the messages that its handlers sent.
    """

    failure: str | None
    is_rejected: bool = False
    message_ids: tuple[str, ...] = ()


DIED = Handled("the process of its portal ended while it was handled")


class OwnedQueue:
    """A queue while this portal owns it; in one event loop.

    Args:
        handle: handles an event of a queue; must not raise.

    Attributes:
        number: of the queue.
        token: the backend's name for this ownership.
        cursor: offset up to which the queue was read.
        events: events that were read and not handled, in order for each connection.
        uncommitted: steps that the backend has not answered.
        is_open: whether the handling of another event may begin.
    """

    def __init__(
        self,
        number: int,
        token: int,
        handle: Callable[["OwnedQueue", WaitingEvent], Awaitable[None]],
    ) -> None:
        self.number = number
        self.token = token
        self.cursor = ""
        self.events = KeyedQueues(partial(handle, self))
        self.uncommitted = 0
        self.is_open = True
        self._closed = asyncio.Event()
        self._due = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no event is being handled, and the backend knows of all that were."""
        return not self.events.tasks and not self.uncommitted

    @property
    def is_overdue(self) -> bool:
        """Whether the queue was closed so long ago that its handlers shall not keep it any longer."""
        return not self.is_open and asyncio.get_running_loop().time() >= self._due

    @property
    def has_room(self) -> bool:
        """Whether more events may be read."""
        return self.is_open and self.events.count < MAX_WAITING and self.events.size < MAX_BYTES

    def close(self) -> None:
        """Begin no other event; what is being handled goes on."""
        if self.is_open:
            self.is_open = False
            self._due = asyncio.get_running_loop().time() + HAND_OVER
            self._closed.set()

    async def closes_within(self, seconds: float) -> None:
        """Wait some seconds, or until the queue is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return


class Handling:
    """Reads the queues that a portal owns, no more than there is room for, and handles their events.

    Steps are carried out in the order in which they are made, and repeated until the backend answers.
    Handlers wait until the beginning of their event was recorded, and so all steps before it. The other
    steps are not waited for: the next event of the same connection begins behind them, in the same call.

    Args:
        consumer: the portal's end of the inbox.
        handle: calls the handlers of an event, at its nth delivery.
        concurrency: events that are handled at the same time, in all queues.

    Attributes:
        owned: the queues that are owned, by number; some may be closed.
    """

    def __init__(
        self,
        consumer: PortalConsumer,
        handle: Callable[[WaitingEvent, int], Awaitable[Handled]],
        concurrency: int,
    ) -> None:
        self.owned: dict[int, OwnedQueue] = {}
        self._consumer = consumer
        self._handle = handle
        self._slots = FairSlots(concurrency)
        self._queues: list[OwnedQueue] = []  # lost queues too, while their handlers run
        self._steps = Batcher(self._settle, most=MAX_STEPS, name="mesa-portal-commits")
        self._attempts = count(1)
        self._is_closed = False
        self._looked_back = 0.0
        self._unreadable = LimitedWarning()

    def own(self, number: int, token: int) -> None:
        """Read and handle the events of a queue."""
        queue = self.owned[number] = OwnedQueue(number, token, self._handle_event)
        self._queues = [each for each in self._queues if each.is_open or not each.is_idle]
        self._queues.append(queue)

    async def settled(self) -> None:
        """Wait until the backend has answered all steps."""
        await self._steps.settled()

    async def aclose(self, timeout: float) -> None:
        """Carry out no other step, even of a handler that cannot be cancelled, and cancel all handling.

        Tasks that have not ended after so many seconds are reported.
        """
        self._is_closed = True
        await self._steps.aclose()
        tasks = {task for queue in self._queues for task in queue.events.tasks}
        for task in tasks:
            end(task)
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout)
            report_tasks(log, stuck)

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
        """Read once, and queue each event behind the others of its connection, for `_handle_event`."""
        self._look_back(asyncio.get_running_loop().time())
        queues = {number: queue for number, queue in self.owned.items() if queue.has_room}
        if not queues:
            await asyncio.sleep(IDLE)
            return
        offsets = {number: queue.cursor for number, queue in queues.items()}
        for waiting in await self._consumer.read(offsets):
            queue = queues[waiting.event.partition]
            if queue.is_open:
                queue.cursor = waiting.offset
                if waiting.event.kind == "unreadable":
                    self._unreadable.warn(log, UNREADABLE, waiting.offset, queue.number)
                    self._record("die", queue, waiting, reason="its entry in the queue cannot be read")
                else:
                    queue.events.put(waiting.event.connection_id, waiting, len(waiting.event.data))

    def _look_back(self, now: float) -> None:
        """Now and then, read queues of which no event is being handled from their start.

        A backend that lost its data, and whose clock is behind that of its predecessor, gives lower
        offsets than before. Events that were handled are not in the queue any more.
        """
        if now - self._looked_back < LOOK_BACK:
            return
        self._looked_back = now
        for queue in self.owned.values():
            if queue.is_idle:
                queue.cursor = ""

    async def _handle_event(self, queue: OwnedQueue, waiting: WaitingEvent) -> None:
        """Deliver an event until it is handled or dead; leave it to the next owner of a closed queue."""
        pause = FIRST_PAUSE
        while queue.is_open:
            await self._slots.acquire(waiting.event.id)
            try:
                if self._is_closed or not queue.is_open:  # it was closed while the event waited
                    return
                step = _step("begin", queue, waiting, attempt=next(self._attempts))
                deliveries = await self._steps.call(step)
                if deliveries < 0:  # this portal does not own the queue
                    return
                # The process of a portal ended during the delivery that was to be the last.
                handled = await self._handle(waiting, deliveries) if deliveries <= MAX_DELIVERIES else DIED
                if handled.failure is None:
                    action: Action = "reject" if handled.is_rejected else "done"
                    self._record(action, queue, waiting, message_ids=handled.message_ids)
                    return
            finally:
                self._slots.release()
            if deliveries >= MAX_DELIVERIES:
                event = waiting.event
                log.error("%s %s becomes a dead letter: %s", event.kind, event.key, handled.failure)
                self._record("die", queue, waiting, reason=handled.failure)
                return
            await queue.closes_within(pause)
            pause *= 3

    def _record(
        self,
        action: Action,
        queue: OwnedQueue,
        waiting: WaitingEvent,
        reason: str = "",
        message_ids: tuple[str, ...] = (),
    ) -> None:
        if not self._is_closed:
            self._steps.add(_step(action, queue, waiting, 0, reason, message_ids))

    async def _settle(self, batch: list[tuple[OwnedQueue, Step]]) -> list[int]:
        """Carry out a batch, the steps of each queue together."""
        order = sorted(range(len(batch)), key=lambda index: batch[index][1][:2])
        answers = await self._carry_out([batch[index][1] for index in order])
        results = [0] * len(batch)
        for index, result in zip(order, answers, strict=True):
            queue, step = batch[index]
            results[index] = result
            queue.uncommitted -= 1
            if result >= 0:
                continue
            queue.close()
            if step.action != "begin":
                log.warning(
                    "another portal took over queue %d while an event was handled; it may be handled again",
                    queue.number,
                )
        return results

    async def _carry_out(self, steps: list[Step]) -> list[int]:
        """Carry out steps, again and again until the backend answers; the same ones in the same order."""
        backoff: Backoff | None = None
        while True:
            try:
                return await self._consumer.settle(steps)
            except BackendError as error:
                if backoff is None:
                    log.warning("cannot record which events were handled; trying again: %s", error)
            except Exception:
                log.exception("cannot record which events were handled; trying again")
            backoff = backoff or Backoff(SETTLE_PAUSE, LONGEST_SETTLE_PAUSE)
            await asyncio.sleep(backoff.next())


def _step(
    action: Action,
    queue: OwnedQueue,
    waiting: WaitingEvent,
    attempt: int = 0,
    reason: str = "",
    message_ids: tuple[str, ...] = (),
) -> tuple[OwnedQueue, Step]:
    """Return a step, which is uncommitted from now on, with its queue."""
    queue.uncommitted += 1
    event = waiting.event
    about = (queue.number, queue.token, action, waiting.offset, event.account, event.weight)
    return queue, Step(*about, attempt, reason, message_ids)
