"""Noting what was begun and done: many steps in one call, for the backend is far away."""

import asyncio
import logging
import random
from collections import deque
from itertools import count
from typing import Any, NamedTuple

from ..backend.inbox import Action, PortalConsumer, Step, WaitingEvent, weight_of
from ..concurrency.tasks import end, start
from ..errors import BackendError

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
        self.lines: dict[str, deque[WaitingEvent]] = {}
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


MAX_STEPS = 500
"""Steps in one call."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
"""Seconds until a call that failed is repeated: the first time, and at most."""

log = logging.getLogger("mesa_ws.portal")


class _Order(NamedTuple):
    step: Step
    owned: Owned
    answer: asyncio.Future[int] | None


class Ledger:
    """Carries out steps in the order in which they are given, for as long as it takes.

    What begins waits for its answer, and with it for everything before. What is done is not waited
    for: the next letter of the same connection begins behind it, in the same call.

    Args:
        attendance: the portal's seat.
    """

    def __init__(self, attendance: PortalConsumer) -> None:
        self._attendance = attendance
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False
        self._attempts = count(1)

    async def begin(self, owned: Owned, waiting: WaitingEvent) -> int:
        """Count a delivery; -1 where the queue is lost."""
        if self._is_closed:
            return -1
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(_Order(_step("begin", owned, waiting, next(self._attempts)), owned, answer))
        return await answer

    def done(self, owned: Owned, waiting: WaitingEvent, message_ids: tuple[str, ...]) -> None:
        """A letter was handled; messages of these ids were sent on account of it."""
        self._add(_Order(_step("done", owned, waiting, 0, "", message_ids), owned, None))

    def reject(self, owned: Owned, waiting: WaitingEvent, message_ids: tuple[str, ...]) -> None:
        """A letter was refused for good; messages of these ids were sent on account of it."""
        self._add(_Order(_step("reject", owned, waiting, 0, "", message_ids), owned, None))

    def die(self, owned: Owned, waiting: WaitingEvent, reason: str) -> None:
        """A letter is given up."""
        self._add(_Order(_step("die", owned, waiting, 0, reason), owned, None))

    async def settled(self) -> None:
        """Wait until nothing is to be carried out."""
        await self._idle.wait()

    async def aclose(self) -> None:
        """Carry out nothing any more, whatever a handler that cannot be cancelled is still about to do."""
        self._is_closed = True
        if self._worker is not None:
            end(self._worker)
            await asyncio.wait([self._worker])

    def _add(self, order: _Order) -> None:
        if self._is_closed:
            return
        order.owned.unsettled += 1
        self._orders.append(order)
        if self._worker is None:
            self._idle.clear()
            self._worker = start(self._work(), name="mesa-portal-ledger")

    async def _work(self) -> None:
        try:
            while self._orders:
                batch = [self._orders.popleft() for _ in range(min(MAX_STEPS, len(self._orders)))]
                batch.sort(key=lambda order: (order.owned.number, order.owned.token))
                self._answer(batch, await self._settle([order.step for order in batch]))
        finally:
            self._worker = None
            self._idle.set()

    async def _settle(self, steps: list[Step]) -> list[int]:
        pause = FIRST_PAUSE
        while True:
            try:
                return await self._attendance.settle(steps)
            except BackendError as error:
                if pause == FIRST_PAUSE:
                    log.warning("what was handled cannot be noted, once more: %s", error)
            except Exception:
                log.exception("what was handled cannot be noted, once more")
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads load
            pause = min(2 * pause, LONGEST_PAUSE)

    def _answer(self, batch: list[_Order], results: list[int]) -> None:
        for order, result in zip(batch, results, strict=True):
            order.owned.unsettled -= 1
            if result < 0:
                order.owned.close()
            if order.answer is not None and not order.answer.done():
                order.answer.set_result(result)
            elif result < 0 and order.answer is None:
                log.warning(
                    "queue %d was taken over while an event was handled; it may be handled again",
                    order.owned.number,
                )


def _step(action: Action, owned: Owned, waiting: WaitingEvent, *details: Any) -> Step:
    letter = waiting.event
    what = (action, waiting.offset, letter.connection_id, weight_of(letter.data))
    return Step(owned.number, owned.token, *what, *details)
