"""Source of the wire of 1.x, where an event arrives once, or never."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from ..backend.inbox import InboxEvent, WaitingEvent
from ..backend.mesa1 import Mesa1PortalConsumer
from ..concurrency.retry import LimitedWarning
from ..errors import BackendError
from .native import OnceSource

MAX_WAITING = 10_000
"""Events that wait for handlers; further ones are dropped."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of such events, from which on further ones are dropped. Of one id, or of one connection without an
id, no more may wait than places are free, so a flood of one client drops events of that client."""

LULL = 0.2
"""Seconds without an event after which none is on its way to a portal that leaves."""

LAST = 1.0
"""Seconds that a portal that leaves waits for such a lull at most."""

log = logging.getLogger("mesa_ws.portal")


class Mesa1Source(OnceSource):
    """Has the events handled that servers send to this portal, once at most.

    Events of one connection are handled in order; where their server does not name the connection,
    those of one client.

    Args:
        consumer: the portal's end of the wire.
        observe: calls the handlers of an event.
        concurrency: events that are handled at the same time.
    """

    def __init__(
        self,
        consumer: Mesa1PortalConsumer,
        observe: Callable[[WaitingEvent], Awaitable[None]],
        concurrency: int,
    ) -> None:
        super().__init__(consumer, observe, concurrency)
        self._consumer = consumer
        self._received = 0
        self._weights: Counter[str] = Counter()  # of the events that wait, by account
        self._waiting = 0  # weight of all of them
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
        is_full = self._events.count >= MAX_WAITING or self._events.size >= MAX_BYTES
        if is_full or self._weights[event.account] >= MAX_WAITING - self._waiting:
            self._drop()
            return
        self._weigh(event, 1)
        client = f"client {event.id}" if event.id is not None else event.key
        waiting = WaitingEvent("", time.time(), event)
        self._events.put(event.connection_id or client, waiting, len(event.data))

    async def _handle(self, waiting: WaitingEvent) -> None:
        await super()._handle(waiting)
        self._weigh(waiting.event, -1)

    def _weigh(self, event: InboxEvent, times: int) -> None:
        weight = times * (1 + len(event.data) // max(1, MAX_BYTES // MAX_WAITING))
        self._waiting += weight
        self._weights[event.account] += weight
        if not self._weights[event.account]:
            del self._weights[event.account]

    def _drop(self) -> None:
        self.dropped += 1
        self._drops.warn(
            log,
            "%d events wait for their handlers, further ones are dropped, for all or for some clients; "
            "%d were dropped so far; start another portal, or let handlers do less",
            self._events.count,
            self.dropped,
        )
