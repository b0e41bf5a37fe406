"""A portal: everything it does, without a process around it."""

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Annotated, Any, Self

import msgspec

from ..backend.inbox import Attendance, Waiting
from ..cause import Cause, current_cause
from ..errors import BackendError, MesaError
from ..failure import FAILED, UNANSWERED, Failure
from ..settings import Count, Settings
from .answering import consult, respond
from .calling import Caller, name_of
from .desk import MAX_DELIVERIES, Desk
from .event import PortalEvent
from .holdings import Holdings
from .hooks import PortalHooks
from .ledger import Ledger
from .observer import Observer
from .reader import Reader
from .seats import DEFAULT_LEASE, DEFAULT_TIMEOUT, DEFAULT_URL, Place, seat_at

GRACE = 10.0
"""Seconds that handlers get to finish when the portal stops."""

log = logging.getLogger("mesa_ws.portal")

Lease = Annotated[float, msgspec.Meta(ge=0.3, le=3600, description="a number of seconds, from 0.3 to 3600")]


class _Limits(Settings, frozen=True, kw_only=True):
    """Checked numbers of a portal."""

    concurrency: Count
    handler_threads: Count
    lease: Lease

    @classmethod
    def _path(cls, name: str) -> str:
        return name


class Worker(PortalHooks):
    """Owns its share of the queues, and has what is in them handled.

    Args:
        url: a Redis URI, a mapping of redis-py options or a redis-py client; or the `MemoryHub` or
            the `MemoryBackend` of servers in this process.
        namespace: that of the servers.
        report_all_events: see what all portals see, each event once at most, and take no work from
            others.
        concurrency: events that are handled at the same time.
        handler_threads: plain `def` handlers that run at the same time.
        lease: seconds without a sign of life after which others take over from this portal.
        timeout: seconds for one call of the backend, connecting included.

    Raises:
        InvalidSettings: an argument is wrong.
        Unsupported: portals cannot work over HTTP.
    """

    def __init__(
        self,
        url: Place = DEFAULT_URL,
        *,
        namespace: str | None = None,
        report_all_events: bool = False,
        concurrency: int = 100,
        handler_threads: int = 32,
        lease: float = DEFAULT_LEASE,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> None:
        super().__init__()
        self._limits = _Limits(concurrency=concurrency, handler_threads=handler_threads, lease=lease)
        self._where = (url, namespace, timeout)
        self._sees_all = report_all_events
        self._seat()  # what is wrong is said now
        self._tasks: list[asyncio.Task[None]] = []
        self._caller = Caller(handler_threads)
        self._attendance: Attendance | None = None
        self._holdings: Holdings | None = None
        self._ledger: Ledger | None = None
        self._observer: Observer | None = None

    @property
    def is_running(self) -> bool:
        """Whether the portal takes part."""
        return self._attendance is not None

    @property
    def portal_id(self) -> str:
        """Random name of this portal, new at every start; empty while it does not run."""
        return self._attendance.portal_id if self._attendance is not None else ""

    @property
    def queues(self) -> tuple[int, ...]:
        """Which of the sixteen queues this portal works on now."""
        owned = self._holdings.owned if self._holdings is not None else {}
        return tuple(sorted(number for number, each in owned.items() if each.is_open))

    async def start(self) -> None:
        """Take part from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: it says no.
            MesaError: the portal is running already.
        """
        if self._attendance is not None:
            raise MesaError("the portal is running already; make another Portal to run two")
        self._attendance = self._seat()
        try:
            await (self._observe() if self._sees_all else self._work())
        except BaseException:
            attendance, self._attendance = self._attendance, None
            await attendance.aclose()
            raise
        log.info("portal %s is up", self.portal_id)

    async def stop(self) -> None:
        """Begin nothing any more, let handlers finish within ten seconds, and leave the rest to others.

        What handlers that do not finish were working on is handled again, by another portal.
        """
        attendance = self._attendance
        if attendance is None:
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._tasks.clear()
        try:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(GRACE):
                    await self._finish()
            with suppress(BackendError):
                await self._leave()
        finally:
            self._attendance = self._holdings = self._observer = None
            await attendance.aclose()
            self._caller.shutdown()
        log.info("portal %s is down", attendance.portal_id)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop()

    def _seat(self) -> Attendance:
        url, namespace, timeout = self._where
        return seat_at(url, namespace=namespace, lease=self._limits.lease, timeout=timeout)

    async def _work(self) -> None:
        assert self._attendance is not None  # noqa: S101 - start() made it
        ledger = self._ledger = Ledger(self._attendance)
        holdings = self._holdings = Holdings(self._attendance, ledger, self._limits.lease)
        reader = Reader(self._attendance, holdings, Desk(ledger, self._handle, self._limits.concurrency))
        await holdings.tend()
        self._spawn(holdings.run(), reader.run())

    async def _observe(self) -> None:
        assert self._attendance is not None  # noqa: S101 - start() made it
        observer = self._observer = Observer(self._attendance, self._see, self._limits.concurrency)
        await observer.begin()
        self._spawn(observer.run())

    def _spawn(self, *works: Coroutine[Any, Any, None]) -> None:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work) for work in works]

    async def _finish(self) -> None:
        if self._holdings is not None:
            await self._holdings.leave()
        elif self._observer is not None and self._observer.tasks:
            await asyncio.wait(self._observer.tasks)

    async def _leave(self) -> None:
        if self._observer is not None:
            for task in self._observer.tasks:
                task.cancel()
        if self._ledger is not None:
            await self._ledger.aclose()
        if self._holdings is not None:
            await self._holdings.depart()

    async def _see(self, waiting: Waiting) -> None:
        await self._handle(waiting, 1)

    async def _handle(self, waiting: Waiting, deliveries: int) -> tuple[str | None, tuple[str, ...]]:
        """Call the handlers of a letter; see `Handle`."""
        assert self._attendance is not None  # noqa: S101 - nothing is handled without it
        cause = Cause(waiting.letter.key)
        token = current_cause.set(cause)
        try:
            event = PortalEvent(waiting, deliveries, self._attendance.reply)
            if self._sees_all:
                event.request = None  # to see takes no part, so others answer
            reason, reply = await self._call(event)
            if reply is not None:
                reason = await respond(event, reply, self._attendance.reply) or reason
        except Exception as error:
            log.exception("a letter cannot be read")
            reason = f"{type(error).__name__}: {error}"
        finally:
            current_cause.reset(token)
        return reason, tuple(cause.message_ids)

    async def _call(self, event: PortalEvent) -> tuple[str | None, bytes | Failure | None]:
        """Call handlers, those of a request until one answers; why that failed, and the answer."""
        for handler in self._handlers_of(event):
            try:
                reply = await consult(self._caller.call, handler, event)
            except Exception as error:
                log.exception("handler %s raised at delivery %d", name_of(handler), event.deliveries)
                await self._report(error, event)
                is_last = event.deliveries >= MAX_DELIVERIES
                return f"{type(error).__name__}: {error}", FAILED if is_last else None
            if reply is not None:
                return None, reply
        return None, UNANSWERED

    async def _report(self, error: Exception, event: PortalEvent) -> None:
        for handler in self._on_error:
            try:
                await self._caller.call(handler, error, event)
            except Exception:
                log.exception("on_error handler %s raised", name_of(handler))
