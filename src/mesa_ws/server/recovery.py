"""Recovery: reading what connections and the node have missed from the backend.

`Recovery` reads outboxes for subscriptions, many in one call, and repeats a call that failed.
`BroadcastReader` keeps the node's position among the stored messages to everybody.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from ..backend.base import Outbox
from ..backend.outbox import Entry, Page, Read
from ..concurrency.limited_log import LimitedLog
from ..concurrency.retry import Backoff
from ..concurrency.tasks import Spawn
from ..errors import BackendError, BackendUnavailable
from ..messages.message_log import log_page
from ..messages.receipt import Position
from .subscription import Subscription

log = logging.getLogger("mesa_ws.server")

BATCH = 200
"""Outboxes that are read in one call."""

FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
"""Seconds until a failed call is repeated: the first time, and at most."""


class _PageRequest(NamedTuple):
    subscription: Subscription
    is_broadcast: bool


class Recovery:
    """Read pages for subscriptions, in the order of their requests. For the event loop only."""

    def __init__(
        self,
        outbox: Outbox,
        spawn: Spawn,
        ready: Callable[[Position | None], Awaitable[None]],
        settle: Callable[[Subscription], None],
        give_up: Callable[[Subscription, Exception], None],
        log: LimitedLog,
    ) -> None:
        self._log = log
        self._outbox = outbox
        self._spawn = spawn
        self._ready = ready
        self._settle = settle
        self._give_up = give_up
        self._requests: deque[_PageRequest] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._requested = 0
        self._served = 0

    def read(self, subscription: Subscription) -> None:
        """Bring `subscription` the page of its outbox that it wants."""
        self._add(_PageRequest(subscription, is_broadcast=False))

    def read_broadcasts(self, subscription: Subscription) -> None:
        """Bring `subscription` the page of messages to everybody that it wants."""
        self._add(_PageRequest(subscription, is_broadcast=True))

    def close(self) -> None:
        """Stop reading."""
        if self._worker is not None:
            self._worker.cancel()

    async def settled(self) -> None:
        """Wait until everything that was requested by now has been read.

        Raises:
            BackendError: the backend did not answer; reading goes on nevertheless.
        """
        if self._served == self._requested:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._requested, done))
        await done

    def _add(self, request: _PageRequest) -> None:
        self._requests.append(request)
        self._requested += 1
        if self._worker is None:
            self._worker = self._spawn(self._work())

    async def _work(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        try:
            while self._requests:
                batch = [self._requests.popleft() for _ in range(min(BATCH, len(self._requests)))]
                try:
                    await self._serve(batch)
                    backoff.reset()
                    await asyncio.sleep(0)  # memory answers at once
                except BackendError as error:
                    log.warning(
                        "the stored messages of %d connections cannot be read yet: %s", len(batch), error
                    )
                    self._requests.extendleft(reversed(batch))
                    self._notify_waiting(error)
                    await asyncio.sleep(backoff.next())
                except Exception as error:  # noqa: BLE001 - it is logged with its traceback
                    self._log.exception("a bug in reading outboxes; their clients may reconnect")
                    for request in batch:  # without their pages, these connections would wait for ever
                        self._give_up(request.subscription, error)
                    self._done(batch, tuple(batch))
        finally:
            self._worker = None

    async def _serve(self, batch: list[_PageRequest]) -> None:
        """Read for a batch; requests that were served are removed from it."""
        subscriptions = [request.subscription for request in batch if not request.is_broadcast]
        try:
            await self._read([each for each in subscriptions if each.is_open])
        except BackendUnavailable:
            raise
        except BackendError:
            await self._read_singly(subscriptions)
        self._done(batch, [request for request in batch if not request.is_broadcast])
        for position in {request.subscription.reading_broadcasts for request in batch}:
            same = [request for request in batch if request.subscription.reading_broadcasts == position]
            await self._read_broadcasts(same)
            self._done(batch, same)

    async def _read(self, subscriptions: Sequence[Subscription]) -> None:
        wanted: dict[Read, list[Subscription]] = {}
        for each in subscriptions:
            if each.reading is not None:
                wanted.setdefault(Read(each.id, each.reading, each.is_wire2), []).append(each)
        if not wanted:
            return
        pages = await self._outbox.read(list(wanted))
        await self._ready(pages[0].standing.position)
        for same, page in zip(wanted.values(), pages, strict=True):
            for each in same:
                if each.is_open:
                    self._hand_over(each, each.on_page, page)

    async def _read_singly(self, subscriptions: Sequence[Subscription]) -> None:
        """Find out which subscriptions the backend refuses, and serve the others."""
        for each in subscriptions:
            try:
                await self._read([each])
            except BackendUnavailable:
                raise
            except BackendError as refusal:
                self._give_up(each, refusal)

    async def _read_broadcasts(self, requests: Sequence[_PageRequest]) -> None:
        open_ones = [
            each.subscription for each in requests if each.is_broadcast and each.subscription.is_open
        ]
        position = open_ones[0].reading_broadcasts if open_ones else None
        if position is None:
            return
        page = await self._outbox.broadcasts(position)
        await self._ready(page.standing.position)
        for each in open_ones:
            if each.is_open:
                self._hand_over(each, each.on_broadcast_page, page)

    def _done(self, batch: list[_PageRequest], served: Sequence[_PageRequest]) -> None:
        for request in served:
            batch.remove(request)
        self._served += len(served)
        self._notify_waiting(None)

    def _hand_over(self, subscription: Subscription, on_page: Callable[[Page], None], page: Page) -> None:
        """Hand over a page; an error in one subscription does not affect the others."""
        if log.isEnabledFor(logging.DEBUG):
            log_page(log, subscription.id, (entry.body for entry in page.entries))
        try:
            self._settle(subscription)
            if subscription.is_open:
                on_page(page)
        except Exception as error:  # noqa: BLE001 - it is logged with its traceback
            self._log.exception("a page could not be written")
            self._give_up(subscription, error)

    def _notify_waiting(self, error: BackendError | None) -> None:
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


RETRY = 1.0
"""Seconds until messages to everybody are read again after a failure."""

ReadBroadcasts = Callable[[Position | None], Coroutine[Any, Any, Page]]


class BroadcastReader:
    """The node's position among the stored messages to everybody. For the event loop only.

    Each message is announced once and in order to all open connections; the reader reads one that
    passed the node by. Clients of wire 2 that read for themselves have positions of their own.

    Attributes:
        position: of the last message announced; None until it is known.
        lost: messages that were dropped before this node could read them.
    """

    def __init__(
        self,
        source: ReadBroadcasts,
        spawn: Spawn,
        announce: Callable[[Position, Entry], None],
        on_reset: Callable[[], None],
        log: LimitedLog,
    ) -> None:
        self._log = log
        self._source = source
        self._spawn = spawn
        self._announce = announce
        self._on_reset = on_reset
        self._worker: asyncio.Task[None] | None = None
        self._again = False
        self._in_order = asyncio.Lock()  # an older page after a newer one would lead back
        self._shared: dict[Position | None, asyncio.Task[Page]] = {}
        self.position: Position | None = None
        self.lost = 0

    async def start(self) -> None:
        """Find out where the messages are; earlier ones are not announced here.

        Raises:
            BackendError: the backend did not answer.
        """
        page = await self._source(None)
        if self.position is None:
            self.position = Position(page.epoch, page.last)

    def close(self) -> None:
        """Forget the position, and stop reading."""
        self.position = None
        if self._worker is not None:
            self._worker.cancel()

    def offer(self, position: Position, entry: Entry) -> None:
        """Announce a message from the bus if it is the next; read if messages before it are missing."""
        here = self.position
        if here is not None and position.epoch == here.epoch:
            if position.sequence == here.sequence + 1:
                self.position = position
                self._announce(position, entry)
                return
            if position.sequence <= here.sequence:
                return
        self._again = True
        if self._worker is None:
            self._worker = self._spawn(self._work())

    async def catch_up(self) -> None:
        """Read and announce the messages that the node missed.

        Raises:
            BackendError: the backend did not answer.
        """
        async with self._in_order:
            if self.position is None:
                await self.start()
            while self.position is not None:
                page = await self._source(self.position)
                self._announce_page(page)
                if not page.has_more:
                    return

    async def read(self, position: Position | None) -> Page:
        """Read the messages after a position for one client; equal reads at the same time share one call.

        A read that joins another under way may get a page from a moment ago; messages announced since
        then have to be read again. Cancelling affects no other caller.

        Raises:
            BackendError: the backend did not answer.
        """
        reading = self._shared.get(position)
        if reading is None:
            reading = self._shared[position] = self._spawn(self._source(position))
            reading.add_done_callback(lambda _: self._shared.pop(position, None))
        return await asyncio.shield(reading)

    def _announce_page(self, page: Page) -> None:
        here = self.position
        if here is None:
            return
        if page.epoch != here.epoch or page.status == "reset" or page.start > here.sequence:
            start = page.start
            if page.ended is not None:  # messages of the epoch that ended may have come during the read
                start = max(start, min(here.sequence, page.ended))
            self.position = Position(page.epoch, start)
        if page.status == "reset":
            self._on_reset()
        if page.lost:
            self.lost += page.lost
            log.warning("%d messages to everybody were dropped before this node had them", page.lost)
        for entry in page.entries:
            position = Position(page.epoch, entry.sequence)
            if self.position == (position.epoch, position.sequence - 1):
                self.position = position
                self._announce(position, entry)

    async def _work(self) -> None:
        try:
            while self._again:
                self._again = False
                try:
                    await self.catch_up()
                except BackendError as error:
                    log.warning("messages to everybody cannot be read yet: %s", error)
                    self._again = True
                    await asyncio.sleep(RETRY)
                except Exception as error:  # noqa: BLE001 - it is logged with its traceback
                    text = "a bug in reading messages to everybody; the node reads on"
                    self._log.exception(text, kind=type(error))
                    self._again = True
                    await asyncio.sleep(RETRY)
        finally:
            self._worker = None
