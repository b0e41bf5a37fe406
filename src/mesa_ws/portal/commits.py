"""Owned queues, and the record of what was begun and done in them.

The backend is far away, so many steps go in one call.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

from ..backend.inbox import WEIGHT_UNIT, Action, PortalConsumer, Step, WaitingEvent
from ..concurrency.queues import Batcher, KeyedQueues
from ..concurrency.retry import Backoff
from ..errors import BackendError

MAX_WAITING = 4000
"""Events of one queue that are read before they can be handled."""

MAX_BYTES = 4 * 1024 * 1024
"""Bytes of such events, from which on no more are read."""

HAND_OVER = 30.0
"""Seconds that handlers get to finish when another portal is to own their queue."""

MAX_STEPS = 500
"""Steps in one call."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds until a call that failed is repeated: the first time, and at most."""

log = logging.getLogger("mesa_ws.portal")


class OwnedQueue:
    """A queue while this portal owns it; in one event loop.

    Args:
        number: of the queue.
        token: the backend's name for this ownership.
        handle: handles an event of a queue; must not raise.

    Attributes:
        number: see above.
        token: see above.
        cursor: offset up to which the queue was read.
        events: events that were read and not handled, in order for each connection.
        uncommitted: steps that the backend has not answered.
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
        self._closed = asyncio.Event()
        self._due = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the handling of another event may begin."""
        return not self._closed.is_set()

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
            self._due = asyncio.get_running_loop().time() + HAND_OVER
        self._closed.set()

    async def closes_within(self, seconds: float) -> None:
        """Wait some seconds, or until the queue is closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return


class _Commit(NamedTuple):
    queue: OwnedQueue
    step: Step


class Commits:
    """Carries out steps in the order in which they are given, and retries until the backend answers.

    `begin` waits for its answer, and so for all steps before it. The other steps are not waited for:
    the next event of the same connection begins behind them, in the same call.

    Args:
        consumer: the portal's end of the inbox.
    """

    def __init__(self, consumer: PortalConsumer) -> None:
        self._consumer = consumer
        self._steps = Batcher(self._settle, most=MAX_STEPS, name="mesa-portal-commits")
        self._is_closed = False
        self._attempts = count(1)

    async def begin(self, queue: OwnedQueue, waiting: WaitingEvent) -> int:
        """Count a delivery, and return how many there were; -1 if this portal does not own the queue."""
        if self._is_closed or not queue.is_open:  # it was closed while the event waited
            return -1
        queue.uncommitted += 1
        return await self._steps.call(_commit("begin", queue, waiting, next(self._attempts)))

    def done(self, queue: OwnedQueue, waiting: WaitingEvent, message_ids: tuple[str, ...]) -> None:
        """Record that an event was handled, and the ids of the messages that its handlers sent."""
        self._add(_commit("done", queue, waiting, 0, "", message_ids))

    def reject(self, queue: OwnedQueue, waiting: WaitingEvent, message_ids: tuple[str, ...]) -> None:
        """Record that an event was refused for good, and the ids of the messages that its handlers sent."""
        self._add(_commit("reject", queue, waiting, 0, "", message_ids))

    def give_up(self, queue: OwnedQueue, waiting: WaitingEvent, reason: str) -> None:
        """Make an event a dead letter."""
        self._add(_commit("die", queue, waiting, 0, reason))

    async def settled(self) -> None:
        """Wait until the backend has answered all steps."""
        await self._steps.settled()

    async def aclose(self) -> None:
        """Carry out no other step, even if a handler that cannot be cancelled finishes later."""
        self._is_closed = True
        await self._steps.aclose()

    def _add(self, commit: _Commit) -> None:
        if not self._is_closed:
            commit.queue.uncommitted += 1
            self._steps.add(commit)

    async def _settle(self, batch: list[_Commit]) -> list[int]:
        """Carry out a batch, the steps of each queue together."""
        order = sorted(
            range(len(batch)), key=lambda index: (batch[index].queue.number, batch[index].queue.token)
        )
        answers = await self._carry_out([batch[index].step for index in order])
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
        backoff: Backoff | None = None
        while True:
            try:
                return await self._consumer.settle(steps)
            except BackendError as error:
                if backoff is None:
                    log.warning("cannot record which events were handled; trying again: %s", error)
            except Exception:
                log.exception("cannot record which events were handled; trying again")
            backoff = backoff or Backoff(FIRST_PAUSE, LONGEST_PAUSE)
            await asyncio.sleep(backoff.next())


def _commit(action: Action, queue: OwnedQueue, waiting: WaitingEvent, *details: Any) -> _Commit:
    event = waiting.event
    subject = (action, waiting.offset, event.connection_id, 1 + len(event.data) // WEIGHT_UNIT)
    return _Commit(queue, Step(queue.number, queue.token, *subject, *details))
