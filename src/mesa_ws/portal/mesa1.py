"""Source of the wire of 1.x, where an event arrives once, or never."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ..backend.inbox import InboxEvent, WaitingEvent
from ..backend.mesa1 import Mesa1PortalConsumer
from ..concurrency.queues import KeyedQueues
from ..concurrency.retry import LimitedWarning
from ..errors import BackendError

MAX_WAITING = 10_000
"""Events that wait for handlers; further ones are dropped."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of such events, from which on further ones are dropped."""

LULL = 0.2
"""Seconds without an event after which none is on its way to a portal that leaves."""

LAST = 1.0
"""Seconds that a portal that leaves waits for such a lull at most."""

log = logging.getLogger("mesa_ws.portal")


class Mesa1Source:
    """Has the events handled that servers send to this portal, once at most.

    Events of one connection are handled in order; where their server does not name the connection,
    those of one client.

    Args:
        consumer: the portal's end of the wire.
        observe: calls the handlers of an event.
        concurrency: events that are handled at the same time.

    Attributes:
        portal_id: random name of this portal; a UUID.
        queues: always empty: this wire has no queues.
        reply: sends a message to one connection of one node; see `Mesa1PortalConsumer.reply`.
        dropped: events that were dropped because too many waited for handlers.
    """

    queues: tuple[int, ...] = ()

    def __init__(
        self,
        consumer: Mesa1PortalConsumer,
        observe: Callable[[WaitingEvent], Awaitable[None]],
        concurrency: int,
    ) -> None:
        self.portal_id = consumer.portal_id
        self.reply = consumer.reply
        self._consumer = consumer
        self._observe = observe
        self._slots = asyncio.Semaphore(concurrency)
        self._events = KeyedQueues(self._handle)
        self._received = 0
        self.dropped = 0
        self._drops = LimitedWarning()

    async def start(self) -> None:
        """Receive events, and announce this portal to the servers."""
        await self._consumer.open(self._receive)

    async def finish(self) -> None:
        """Tell the servers that this portal leaves, and handle the events that are on their way."""
        try:
            await self._consumer.leave()
            await self._lull()
        except BackendError as error:
            log.warning("portal %s cannot tell servers that it leaves: %s", self.portal_id, error)
        await self._events.drained()

    async def aclose(self) -> None:
        """Receive no more, and lose what is still being handled."""
        self._events.cancel()
        if self._events.count:
            log.warning("portal %s stops, and %d events are lost", self.portal_id, self._events.count)
        await self._consumer.aclose()

    async def _lull(self) -> None:
        """Wait until no event is on its way."""
        for _ in range(round(LAST / LULL)):
            before = self._received
            await asyncio.sleep(LULL)
            if self._received == before:
                break

    def _receive(self, event: InboxEvent) -> None:
        self._received += 1
        if self._events.count >= MAX_WAITING or self._events.size >= MAX_BYTES:
            self._drop()
            return
        client = f"client {event.id}" if event.id is not None else event.key
        waiting = WaitingEvent("", time.time(), event)
        self._events.put(event.connection_id or client, waiting, len(event.data))

    async def _handle(self, waiting: WaitingEvent) -> None:
        async with self._slots:
            await self._observe(waiting)

    def _drop(self) -> None:
        self.dropped += 1
        self._drops.warn(
            log,
            "%d events wait for their handlers, further ones are dropped; %d were dropped so far; "
            "start another portal, or let handlers do less",
            self._events.count,
            self.dropped,
        )
