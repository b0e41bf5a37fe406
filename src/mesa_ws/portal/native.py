"""Sources of Mesa's own wire, where events wait in queues until they are handled; and the base of others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ..backend.inbox import PortalConsumer, WaitingEvent
from ..backend.mesa1 import Mesa1PortalConsumer
from ..concurrency.queues import FairSlots, KeyedQueues
from ..concurrency.retry import Backoff
from ..concurrency.tasks import Tasks
from ..errors import BackendError
from .assignment import Assignment
from .handling import Handled, Handling

MAX_WAITING = 10_000
"""Events that an observer reads before they can be handled."""

MAX_BYTES = 16 * 1024 * 1024
"""Bytes of such events, from which on no more are read."""

PAUSE = 0.5
"""Seconds, at most, until reading is tried again."""

PATIENCE = 1.0
"""Seconds that cancelled tasks get to end."""

log = logging.getLogger("mesa_ws.portal")


class OnceSource:
    """Base of sources whose events are handled once at most; in order for each key.

    Args:
        consumer: the portal's end of the wire.
        observe: calls the handlers of an event.
        concurrency: events that are handled at the same time.

    Attributes:
        portal_id: random name of this portal.
        queues: always empty: the source owns none.
        dropped: events that were dropped because too many waited for handlers.
        reply: sends a message to one connection of one node; see `PortalConsumer.reply`.
    """

    queues: tuple[int, ...] = ()

    def __init__(
        self,
        consumer: PortalConsumer | Mesa1PortalConsumer,
        observe: Callable[[WaitingEvent], Awaitable[None]],
        concurrency: int,
    ) -> None:
        self.portal_id = consumer.portal_id
        self.reply = consumer.reply
        self.dropped = 0
        self._observe = observe
        self._slots = FairSlots(concurrency)
        self._events = KeyedQueues(self._handle)

    async def _handle(self, waiting: WaitingEvent) -> None:
        await self._slots.acquire(waiting.event.id)
        try:
            await self._observe(waiting)
        finally:
            self._slots.release()


class QueueSource:
    """Owns a share of the queues, and has their events handled at least once.

    Args:
        consumer: the portal's end of the inbox.
        handle: calls the handlers of an event, at its nth delivery.
        concurrency: events that are handled at the same time.
        lease: seconds without a heartbeat after which other portals take over.

    Attributes:
        portal_id: random name of this portal.
        dropped: always 0: events that cannot be handled yet stay in their queue.
        reply: sends a message to one connection of one node; see `PortalConsumer.reply`.
    """

    dropped = 0

    def __init__(
        self,
        consumer: PortalConsumer,
        handle: Callable[[WaitingEvent, int], Awaitable[Handled]],
        concurrency: int,
        lease: float,
    ) -> None:
        self.portal_id = consumer.portal_id
        self.reply = consumer.reply
        self._consumer = consumer
        self._tasks = Tasks("portal")
        self._takes_part = False
        self._handling = Handling(consumer, handle, concurrency)
        self._assignment = Assignment(consumer, self._handling, lease)

    @property
    def queues(self) -> tuple[int, ...]:
        """The queues that this portal owns now."""
        return tuple(sorted(number for number, queue in self._assignment.owned.items() if queue.is_open))

    async def start(self) -> None:
        """Own the assigned queues, and read them."""
        await self._assignment.heartbeat()
        self._takes_part = True
        self._tasks.start(self._assignment.run, "heartbeat")
        self._tasks.start(self._handling.run, "reader")

    async def finish(self) -> None:
        """Begin no other event, and give up each queue when none of its events is being handled."""
        await self._tasks.aclose(PATIENCE)
        await self._assignment.leave()

    async def aclose(self) -> None:
        """Give up all queues; another portal handles again what was not finished."""
        await self._tasks.aclose(PATIENCE)
        await self._handling.aclose(PATIENCE)
        if self._takes_part:
            with suppress(BackendError):
                await self._assignment.depart()
        await self._consumer.aclose()


class ObserverSource(OnceSource):
    """Has the events of all queues handled once at most, in order for each connection; removes none.

    Args:
        consumer: the portal's end of the inbox.
        observe: calls the handlers of an event.
        concurrency: events that are handled at the same time.
    """

    def __init__(
        self,
        consumer: PortalConsumer,
        observe: Callable[[WaitingEvent], Awaitable[None]],
        concurrency: int,
    ) -> None:
        super().__init__(consumer, observe, concurrency)
        self._consumer = consumer
        self._tasks = Tasks("portal")
        self._offset = ""

    async def start(self) -> None:
        """Observe the events that come from now on."""
        await self._read()
        self._tasks.start(self._run, "observer")

    async def finish(self) -> None:
        """Read no more, and wait until everything that was read is handled."""
        await self._tasks.aclose(PATIENCE)
        await self._events.drained()

    async def aclose(self) -> None:
        """Cancel what is being handled."""
        await self._tasks.aclose(PATIENCE)
        self._events.cancel()
        await self._consumer.aclose()

    async def _run(self) -> None:
        backoff = Backoff(PAUSE, PAUSE)
        while True:
            if self._events.count >= MAX_WAITING or self._events.size >= MAX_BYTES:
                await asyncio.wait(self._events.tasks, return_when=asyncio.FIRST_COMPLETED)
            try:
                await self._read()
            except BackendError as error:
                log.debug("cannot read events; trying again: %s", error)
                await asyncio.sleep(backoff.next())

    async def _read(self) -> None:
        self._offset, events = await self._consumer.observe(self._offset)
        for waiting in events:
            self._events.put(waiting.event.connection_id, waiting, len(waiting.event.data))
