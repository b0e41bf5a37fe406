"""Work on the wire of 1.x: events are heard once, or never."""

import asyncio
import logging
import time
from collections import deque
from functools import partial

from ..backend.inbox import InboxEvent, WaitingEvent
from ..backend.mesa1 import Mesa1PortalConsumer
from ..concurrency.tasks import end, persist, start
from ..errors import BackendError
from ..messages.envelope import Envelope
from .source import See

MAX_WAITING = 10_000
"""Events that wait for handlers; further ones are dropped."""

MAX_BYTES = 64 * 1024 * 1024
"""Bytes of them, from which on the same."""

LULL = 0.2
"""Seconds without an event after which nothing is on its way to a portal that leaves any more."""

LAST = 1.0
"""Seconds that are waited for that at most."""

QUIET = 60.0
"""Seconds between two warnings of events that are dropped."""

log = logging.getLogger("mesa_ws.portal")


class Hearing:
    """Has handled what servers tell this portal, at most once.

    Events of one connection form a line, and where their server does not name it, those of one
    client; each line is worked on by a task of its own.

    Args:
        attendance: the portal's seat.
        see: see `See`.
        concurrency: events that are handled at the same time.
    """

    def __init__(self, attendance: Mesa1PortalConsumer, see: See, concurrency: int) -> None:
        self._dropped = 0
        self._attendance = attendance
        self._see = see
        self._slots = asyncio.Semaphore(concurrency)
        self._lines: dict[str, deque[WaitingEvent]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0
        self._size = 0
        self._heard = 0
        self._quiet_until = 0.0

    @property
    def portal_id(self) -> str:
        """Random name of this portal; a UUID."""
        return self._attendance.portal_id

    @property
    def queues(self) -> tuple[int, ...]:
        """None: there are no queues on this wire."""
        return ()

    @property
    def dropped(self) -> int:
        """Events that were dropped because too many waited for handlers."""
        return self._dropped

    async def start(self) -> None:
        """Listen, and let servers know."""
        await self._attendance.open(self._take)

    async def finish(self) -> None:
        """Let servers know that this portal leaves, if that can be, and handle what was on its way."""
        try:
            await self._attendance.leave()
            await self._lull()
        except BackendError as error:
            log.warning("portal %s cannot say that it leaves: %s", self.portal_id, error)
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def aclose(self) -> None:
        """Hear nothing more; what is still being handled is lost."""
        for task in self._tasks:
            end(task)
        if self._waiting:
            log.warning("portal %s stops, and %d events are lost", self.portal_id, self._waiting)
        await self._attendance.aclose()

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection of one node; see `Mesa1PortalConsumer.reply`."""
        return await self._attendance.reply(envelope, node)

    async def _lull(self) -> None:
        """Wait until nothing is on its way any more."""
        for _ in range(round(LAST / LULL)):
            before = self._heard
            await asyncio.sleep(LULL)
            if self._heard == before:
                break

    def _take(self, letter: InboxEvent) -> None:
        self._heard += 1
        if self._waiting >= MAX_WAITING or self._size >= MAX_BYTES:
            self._drop()
            return
        waiting = WaitingEvent("", time.time(), letter)
        self._waiting += 1
        self._size += len(letter.data)
        name = letter.connection_id or (f"client {letter.id}" if letter.id is not None else letter.key)
        line = self._lines.get(name)
        if line is not None:
            line.append(waiting)
            return
        line = self._lines[name] = deque((waiting,))
        task = start(persist(partial(self._work, name, line)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, name: str, line: deque[WaitingEvent]) -> None:
        while line:
            async with self._slots:
                await self._see(line[0])
            self._size -= len(line.popleft().event.data)
            self._waiting -= 1
        del self._lines[name]

    def _drop(self) -> None:
        self._dropped += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            log.warning(
                "%d events wait for their handlers, further ones are dropped; %d were so far; "
                "start another portal, or let handlers do less",
                self._waiting,
                self._dropped,
            )
