"""Reading outboxes for feeds that miss something: many in one call, and again until it works."""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from ..backend.outbox import Page, Read
from ..errors import BackendError, BackendUnavailable
from ..messages.message_log import log_page
from ..messages.receipt import Position
from .subscription import Feed

log = logging.getLogger("mesa_ws.server")

BATCH = 200
"""Outboxes that are read in one call."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds until a call that failed is repeated: the first time, and at most."""


class Source(Protocol):
    """Where outboxes are."""

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read what follows positions."""

    async def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody after a position."""


class _Order(NamedTuple):
    feed: Feed
    is_broadcast: bool


class CatchUp:
    """Serves feeds in the order in which they ask. For the event loop only.

    Args:
        source: the backend.
        spawn: runs the work; it exists only while there is some.
        give_up: called with a feed that the backend will not serve, and why.
    """

    def __init__(
        self,
        source: Source,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        give_up: Callable[[Feed, Exception], None],
    ) -> None:
        self._source = source
        self._spawn = spawn
        self._give_up = give_up
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._ordered = 0
        self._served = 0

    def read(self, feed: Feed) -> None:
        """Bring `feed` the page it wants of its outbox."""
        self._order(_Order(feed, is_broadcast=False))

    def read_broadcasts(self, feed: Feed) -> None:
        """Bring `feed` the page it wants of the messages to everybody."""
        self._order(_Order(feed, is_broadcast=True))

    def close(self) -> None:
        """Read nothing any more."""
        if self._worker is not None:
            self._worker.cancel()

    async def settled(self) -> None:
        """Wait until everything that was asked for by now has been read.

        Raises:
            BackendError: the backend did not answer; reading goes on all the same.
        """
        if self._served == self._ordered:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._ordered, done))
        await done

    def _order(self, order: _Order) -> None:
        self._orders.append(order)
        self._ordered += 1
        if self._worker is None:
            self._worker = self._spawn(self._work())

    async def _work(self) -> None:
        pause = FIRST_PAUSE
        try:
            while self._orders:
                batch = [self._orders.popleft() for _ in range(min(BATCH, len(self._orders)))]
                try:
                    await self._serve(batch)
                    pause = FIRST_PAUSE
                except BackendError as error:
                    self._failed(batch, error)
                    await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - spreads load
                    pause = min(2 * pause, LONGEST_PAUSE)
                except Exception as error:
                    log.exception("a bug in reading outboxes; their clients may come back")
                    self._abandon(batch, error)
        finally:
            self._worker = None

    async def _serve(self, batch: list[_Order]) -> None:
        """Read for a batch; those that were served are taken out of it."""
        feeds = [order.feed for order in batch if not order.is_broadcast]
        try:
            await self._read([feed for feed in feeds if feed.is_open])
        except BackendUnavailable:
            raise
        except BackendError as error:
            await self._read_singly(feeds, error)
        self._done(batch, [order for order in batch if not order.is_broadcast])
        for position in {order.feed.reading_broadcasts for order in batch}:
            same = [order for order in batch if order.feed.reading_broadcasts == position]
            await self._read_broadcasts(same)
            self._done(batch, same)

    async def _read(self, feeds: Sequence[Feed]) -> None:
        wanted: dict[Read, list[Feed]] = {}
        for feed in feeds:
            if feed.reading is not None:
                wanted.setdefault(Read(feed.id, feed.reading, feed.is_wire2), []).append(feed)
        if not wanted:
            return
        pages = await self._source.read(list(wanted))
        for same, page in zip(wanted.values(), pages, strict=True):
            for feed in same:
                if feed.is_open:
                    self._hand(feed, feed.took, page)

    async def _read_singly(self, feeds: Sequence[Feed], error: BackendError) -> None:
        """Find out for whom the backend says no: the others are served all the same."""
        for feed in feeds:
            try:
                await self._read([feed])
            except BackendUnavailable:
                raise
            except BackendError as refusal:
                self._give_up(feed, refusal)

    async def _read_broadcasts(self, orders: Sequence[_Order]) -> None:
        feeds = [order.feed for order in orders if order.is_broadcast and order.feed.is_open]
        position = feeds[0].reading_broadcasts if feeds else None
        if position is None:
            return
        page = await self._source.broadcasts(position)
        for feed in feeds:
            if feed.is_open:
                self._hand(feed, feed.took_broadcasts, page)

    def _done(self, batch: list[_Order], served: Sequence[_Order]) -> None:
        for order in served:
            batch.remove(order)
        self._served += len(served)
        self._report(None)

    def _failed(self, batch: list[_Order], error: BackendError) -> None:
        log.warning("the backend gives no messages to %d connections: %s", len(batch), error)
        self._orders.extendleft(reversed(batch))
        self._report(error)

    def _abandon(self, batch: list[_Order], error: Exception) -> None:
        """Let go of whom nothing can be brought: who waited for ever would miss all that follows."""
        for order in batch:
            self._give_up(order.feed, error)
        self._done(batch, tuple(batch))

    def _hand(self, feed: Feed, take: Callable[[Page], None], page: Page) -> None:
        """Hand over a page; what goes wrong in one feed is not the others' business."""
        log_page(log, feed.id, page.entries)
        try:
            take(page)
        except Exception as error:
            log.exception("a page could not be written")
            self._give_up(feed, error)

    def _report(self, error: BackendError | None) -> None:
        waiting, self._waiting = self._waiting, []
        for until, done in waiting:
            if done.done():
                continue
            if error is not None:
                done.set_exception(error)
            elif until <= self._served:
                done.set_result(None)
            else:
                self._waiting.append((until, done))


class SharedReads:
    """Reads pages for whoever asks, equal ones once. For the event loop only.

    Who joins a read that is under way may get a page from before it asked.

    Args:
        source: reads what follows a position.
        spawn: runs the work.
    """

    def __init__(
        self,
        source: Callable[[Position | None], Coroutine[Any, Any, Page]],
        spawn: Callable[[Coroutine[Any, Any, Page]], asyncio.Task[Page]],
    ) -> None:
        self._source = source
        self._spawn = spawn
        self._under_way: dict[Position | None, asyncio.Task[Page]] = {}

    async def read(self, position: Position | None) -> Page:
        """Read what follows `position`. Cancelling takes it from nobody else.

        Raises:
            BackendError: the source did not answer.
        """
        reading = self._under_way.get(position)
        if reading is None:
            reading = self._under_way[position] = self._spawn(self._source(position))
            reading.add_done_callback(lambda _: self._under_way.pop(position, None))
        return await asyncio.shield(reading)
