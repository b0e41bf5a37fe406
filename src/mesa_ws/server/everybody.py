"""Messages to everybody: which this node has handed on, and which it missed."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..backend.outbox import Entry, Page
from ..errors import BackendError
from ..position import Position

log = logging.getLogger("mesa_ws.server")

RETRY = 1.0
"""Seconds until what was missed is read again after a failure."""


class Source(Protocol):
    """Where stored messages to everybody are."""

    async def broadcasts(self, position: Position | None) -> Page:
        """Read those after a position; with None only tell where they are."""


class Everybody:
    """The node's own place among the stored messages to everybody. For the event loop only.

    Each is handed on once and in order to all connections that are open; one that passed the node
    by is read. Clients of wire 2 that read for themselves have places of their own.

    Args:
        source: the backend.
        spawn: runs work of its own.
        hand_on: takes each message.
        on_reset: called when the backend has forgotten the place, as after it was emptied.

    Attributes:
        position: of the last message handed on; None until it is known.
        lost: messages that were dropped before this node could read them.
    """

    def __init__(
        self,
        source: Source,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        hand_on: Callable[[Position, Entry], None],
        on_reset: Callable[[], None],
    ) -> None:
        self._source = source
        self._spawn = spawn
        self._hand_on = hand_on
        self._on_reset = on_reset
        self._reader: asyncio.Task[None] | None = None
        self._again = False
        self._turn = asyncio.Lock()  # an older answer after a newer one would lead back
        self.position: Position | None = None
        self.lost = 0

    async def start(self) -> None:
        """Find out where the messages are; those before are nobody's here.

        Raises:
            BackendError: the backend did not answer.
        """
        page = await self._source.broadcasts(None)
        if self.position is None:
            self.position = Position(page.epoch, page.last)

    def close(self) -> None:
        """Forget the place, and read nothing any more."""
        self.position = None
        if self._reader is not None:
            self._reader.cancel()

    def offer(self, position: Position, entry: Entry) -> None:
        """Take a message that the bus brought, and hand it on if it is the next."""
        here = self.position
        if here is not None and position.epoch == here.epoch:
            if position.sequence == here.sequence + 1:
                self.position = position
                self._hand_on(position, entry)
                return
            if position.sequence <= here.sequence:
                return
        self._again = True
        if self._reader is None:
            self._reader = self._spawn(self._read())

    async def catch_up(self) -> None:
        """Hand on what was missed.

        Raises:
            BackendError: the backend did not answer.
        """
        async with self._turn:
            if self.position is None:
                await self.start()
            while self.position is not None:
                page = await self._source.broadcasts(self.position)
                self._take(page)
                if not page.has_more:
                    return

    def _take(self, page: Page) -> None:
        here = self.position
        if here is None:
            return
        if page.epoch != here.epoch or page.status == "reset" or page.start > here.sequence:
            self.position = Position(page.epoch, page.start)
        if page.status == "reset":
            self._on_reset()
        if page.lost:
            self.lost += page.lost
            log.warning("%d messages to everybody were dropped before this node had them", page.lost)
        for entry in page.entries:
            place = Position(page.epoch, entry.sequence)
            if self.position == (place.epoch, place.sequence - 1):
                self.position = place
                self._hand_on(place, entry)

    async def _read(self) -> None:
        try:
            while self._again:
                self._again = False
                try:
                    await self.catch_up()
                except BackendError as error:
                    log.warning("the backend gives no messages to everybody: %s", error)
                    self._again = True
                    await asyncio.sleep(RETRY)
        finally:
            self._reader = None
