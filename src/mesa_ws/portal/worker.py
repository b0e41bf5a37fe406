"""A portal: everything it does, without a process around it."""

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Annotated, Self

import msgspec

from ..backend.inbox import WaitingEvent
from ..backend.urls import (
    DEFAULT_LEASE,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    PortalUrl,
    mesa1_portal_consumer,
    portal_consumer,
)
from ..concurrency.left_behind import report_threads
from ..concurrency.tasks import unwatch, watch
from ..errors import BackendError, MesaError, Unsupported
from ..handlers import Caller, Handler, name_of
from ..messages.envelope import IdempotencyScope, current_scope
from ..messages.request import FAILED, UNANSWERED, Failure
from ..settings import Count, Durability, DurabilityLevel, Settings, Switch, Wire, check_wire
from .event import PortalEvent
from .handling import MAX_DELIVERIES
from .hooks import PortalHooks
from .mesa1 import Hearing
from .native import Observing, Sharing
from .replies import Rejection, consult, respond
from .source import Handled, Work

MAX_REASON = 1000
"""Characters that are kept of why a handler failed."""

GRACE = 10.0
"""Seconds that handlers get to finish when the portal stops."""

log = logging.getLogger("mesa_ws.portal")

Lease = Annotated[float, msgspec.Meta(ge=0.3, le=3600, description="a number of seconds, from 0.3 to 3600")]


class _Limits(Settings, frozen=True, kw_only=True):
    """Checked numbers of a portal."""

    concurrency: Count
    handler_threads: Count
    lease: Lease
    report_all_events: Switch
    durability: DurabilityLevel

    @classmethod
    def _path(cls, name: str) -> str:
        return name


class Worker(PortalHooks):
    """Has what clients do handled, in the way of its wire.

    Args:
        url: a Redis URI, a mapping of redis-py options or a redis-py client; or the `MemoryHub` or
            the `MemoryBackend` of servers in this process.
        namespace: that of the servers.
        wire: how the servers talk through Redis: `"native"`, or `"mesa1"` as @cryb/mesa 1.x does.
        report_all_events: see what all portals see, each event once at most, and take no work from
            others.
        concurrency: events that are handled at the same time.
        handler_threads: plain `def` handlers that run at the same time.
        lease: seconds without a sign of life after which others take over from this portal.
        timeout: seconds for one call of the backend, connecting included.
        durability: what it has to reach that an event begins, before handlers are called:
            `"memory"`, `"fsync"` or `"replicated"`, as for messages.

    Raises:
        InvalidSettings: an argument is wrong.
        Unsupported: portals cannot work over HTTP, and this wire or this backend has no such durability.
    """

    def __init__(
        self,
        url: PortalUrl = DEFAULT_URL,
        *,
        namespace: str | None = None,
        wire: Wire = "native",
        report_all_events: bool = False,
        concurrency: int = 100,
        handler_threads: int = 32,
        lease: float = DEFAULT_LEASE,
        timeout: float = DEFAULT_TIMEOUT,
        durability: Durability = "memory",
    ) -> None:
        super().__init__()
        self._limits = _Limits(
            concurrency=concurrency,
            handler_threads=handler_threads,
            lease=lease,
            report_all_events=report_all_events,
            durability=durability,
        )
        self._wire = check_wire(wire)
        self._where = (url, namespace, timeout)
        self._new_work()  # what is wrong is said now
        self._caller = Caller(handler_threads, "mesa-portal")
        self._work: Work | None = None
        self._rejected = 0

    @property
    def is_running(self) -> bool:
        """Whether the portal takes part."""
        return self._work is not None

    @property
    def portal_id(self) -> str:
        """Random name of this portal, new at every start; empty while it does not run."""
        return self._work.portal_id if self._work is not None else ""

    @property
    def queues(self) -> tuple[int, ...]:
        """Which of the sixteen queues this portal works on now; wire `"mesa1"` has none."""
        return self._work.queues if self._work is not None else ()

    @property
    def dropped(self) -> int:
        """Events dropped since the start because too many waited; only wire `"mesa1"` drops any."""
        return self._work.dropped if self._work is not None else 0

    @property
    def rejected(self) -> int:
        """Events that handlers of this portal have rejected since it started."""
        return self._rejected

    async def start(self) -> None:
        """Take part from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: it says no.
            MesaError: the portal is running already.
        """
        if self._work is not None:
            raise MesaError("the portal is running already; make another Portal to run two")
        work = self._work = self._new_work()
        self._rejected = 0
        watch()
        try:
            await work.start()
        except BaseException:
            self._work = None
            await work.aclose()
            await unwatch()
            raise
        log.info("portal %s is up", self.portal_id)

    async def stop(self) -> None:
        """Begin nothing any more, let handlers finish within ten seconds, and leave the rest to others.

        What handlers that do not finish were working on is handled again, by another portal; on wire
        `"mesa1"` it is lost.
        """
        work = self._work
        if work is None:
            return
        try:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(GRACE):
                    await work.finish()
        finally:
            await work.aclose()
            self._work = None
            report_threads(log, self._caller.busy)
            self._caller.shutdown()
            await unwatch()
        log.info("portal %s is down", work.portal_id)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop()

    def _new_work(self) -> Work:
        url, namespace, timeout = self._where
        lease, concurrency = self._limits.lease, self._limits.concurrency
        sees_all, durability = self._limits.report_all_events, self._limits.durability
        if durability != "memory" and (sees_all or self._wire == "mesa1"):
            raise Unsupported(
                f"durability: expected 'memory' with report_all_events or wire 'mesa1', got {durability!r}; "
                "events come once at most there, and nothing is noted about them"
            )
        if self._wire == "mesa1":
            heard = mesa1_portal_consumer(
                url, namespace=namespace, sees_all=sees_all, lease=lease, timeout=timeout
            )
            return Hearing(heard, self._see, concurrency)
        seat = portal_consumer(url, namespace=namespace, lease=lease, timeout=timeout, durability=durability)
        if sees_all:
            return Observing(seat, self._see, concurrency)
        return Sharing(seat, self._handle, concurrency, lease)

    async def _see(self, waiting: WaitingEvent) -> None:
        """Call the handlers of a letter that comes once, so that what they send needs no name.

        To see takes no part in a request: others answer.
        """
        await self._tell(waiting, 1, may_answer=False)

    async def _handle(self, waiting: WaitingEvent, deliveries: int) -> Handled:
        """Call the handlers of a letter; see `Handle`."""
        scope = IdempotencyScope(waiting.event.key)
        token = current_scope.set(scope)
        try:
            handled = await self._tell(waiting, deliveries, may_answer=True)
        finally:
            current_scope.reset(token)
        # Not if this was cancelled: a thread may go on, and another portal handles the same event.
        scope.is_over = True
        return handled._replace(message_ids=tuple(scope.message_ids))

    async def _tell(self, waiting: WaitingEvent, deliveries: int, *, may_answer: bool) -> Handled:
        assert self._work is not None  # noqa: S101 - nothing is handled without it
        send = self._work.reply
        try:
            event = PortalEvent(waiting, deliveries, send)
        except Exception as error:
            log.exception("a letter cannot be read")
            return Handled(_reason(error))
        if not may_answer:
            event.request = None
        log.debug("delivery %d of %r", deliveries, event)
        failure, reply = await self._call(event)
        is_rejected = isinstance(reply, Rejection)
        answer = reply.answer if isinstance(reply, Rejection) else reply
        if answer is not None:
            failure = await respond(event, answer, send) or failure
        if failure is None and isinstance(reply, Rejection):
            await self._reject(reply, event)
        return Handled(failure, is_rejected)

    async def _call(self, event: PortalEvent) -> tuple[str | None, bytes | Failure | Rejection | None]:
        """Call handlers, those of a request until one answers; why that failed, and the answer.

        A handler that rejects the event is the last one, whether or not it is a request.
        """
        for handler in self._handlers_of(event):
            try:
                reply = await consult(self._caller.call, handler, event)
            except Exception as error:
                log.exception("handler %s raised at delivery %d", name_of(handler), event.deliveries)
                await self._report(error, event, self._on_error)
                is_last = event.deliveries >= MAX_DELIVERIES
                return _reason(error), FAILED if is_last else None
            if reply is not None:
                return None, reply
        return None, UNANSWERED

    async def _reject(self, rejection: Rejection, event: PortalEvent) -> None:
        """Count an event that is refused for good, and report it."""
        self._rejected += 1
        code, text = rejection.answer
        log.info("handler %s rejected %r with the code %r: %r", rejection.handler, event, code, text)
        await self._report(rejection.error, event, self._on_rejected, "on_rejected")

    async def _report(
        self, error: Exception, event: PortalEvent, handlers: list[Handler], hook: str = "on_error"
    ) -> None:
        for handler in handlers:
            try:
                await self._caller.call(handler, error, event)
            except Exception:
                log.exception("%s handler %s raised", hook, name_of(handler))


def _reason(error: Exception) -> str:
    """Why a handler failed, as text that every backend can hold."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:  # noqa: BLE001 - it cannot even say what it is
        text = name
    return text[:MAX_REASON].encode(errors="replace").decode()
