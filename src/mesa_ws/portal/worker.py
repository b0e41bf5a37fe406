"""A portal without a process around it."""

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Annotated, ClassVar, Self

import msgspec

from ..backend.urls import (
    DEFAULT_LEASE,
    DEFAULT_TIMEOUT,
    DEFAULT_URL,
    SharedUrl,
    mesa1_portal_consumer,
    portal_consumer,
)
from ..concurrency.tasks import unwatch, watch
from ..errors import BackendError, MesaError, Unsupported
from ..handlers.caller import Caller
from ..messages.envelope import Envelope
from ..settings import Count, Durability, DurabilityLevel, Settings, Switch, Wire, check_wire
from .calls import HandlerCalls
from .hooks import PortalHooks
from .mesa1 import Mesa1Source
from .native import ObserverSource, QueueSource

GRACE = 10.0
"""Seconds that handlers get to finish when the portal stops."""

log = logging.getLogger("mesa_ws.portal")

Source = QueueSource | ObserverSource | Mesa1Source
"""Brings events to handlers, from `start` to `aclose`."""

Lease = Annotated[float, msgspec.Meta(ge=0.3, le=3600, description="a number of seconds, from 0.3 to 3600")]


class _Arguments(Settings, frozen=True, kw_only=True):
    """Checked arguments of a portal."""

    _prefix: ClassVar[str] = ""
    concurrency: Count
    handler_threads: Count
    lease: Lease
    report_all_events: Switch
    durability: DurabilityLevel


class Worker(PortalHooks):
    """Has events of clients handled, as its wire allows; `Portal` documents the arguments."""

    def __init__(
        self,
        url: SharedUrl = DEFAULT_URL,
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
        self._arguments = _Arguments(
            concurrency=concurrency,
            handler_threads=handler_threads,
            lease=lease,
            report_all_events=report_all_events,
            durability=durability,
        )
        self._wire = check_wire(wire)
        self._caller = Caller(handler_threads, "mesa-portal")
        self._calls = HandlerCalls(self._registered, self._caller, self._send)
        self._where = (url, namespace, timeout)
        self._new_source()  # raises what is wrong now
        self._source: Source | None = None

    @property
    def is_running(self) -> bool:
        """Whether the portal takes part."""
        return self._source is not None

    @property
    def portal_id(self) -> str:
        """Random name of this portal, new at every start; empty while it does not run."""
        return self._source.portal_id if self._source is not None else ""

    @property
    def queues(self) -> tuple[int, ...]:
        """The queues, of sixteen, that this portal owns now; wire `"mesa1"` has none."""
        return self._source.queues if self._source is not None else ()

    @property
    def dropped(self) -> int:
        """Events dropped since the start because too many waited; only wire `"mesa1"` drops any."""
        return self._source.dropped if self._source is not None else 0

    @property
    def rejected(self) -> int:
        """Events that handlers of this portal have rejected since it started."""
        return self._calls.rejected

    async def start(self) -> None:
        """Take part from now on.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refuses.
            MesaError: the portal is running already.
        """
        if self._source is not None:
            raise MesaError("the portal is running already; make another Portal to run two")
        source = self._source = self._new_source()
        self._calls.rejected = 0
        watch()
        try:
            await source.start()
        except BaseException:
            self._source = None
            await source.aclose()
            await unwatch()
            raise
        log.info("portal %s is up", self.portal_id)

    async def stop(self) -> None:
        """Begin no other event, let handlers finish within ten seconds, and leave the rest to other portals.

        Another portal handles the events again whose handlers did not finish; on wire `"mesa1"` they
        are lost.
        """
        source = self._source
        if source is None:
            return
        try:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(GRACE):
                    await source.finish()
        finally:
            await source.aclose()
            self._source = None
            self._caller.shutdown(log)
            await unwatch()
        log.info("portal %s is down", source.portal_id)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.stop()

    def _new_source(self) -> Source:
        url, namespace, timeout = self._where
        lease, concurrency = self._arguments.lease, self._arguments.concurrency
        sees_all, durability = self._arguments.report_all_events, self._arguments.durability
        if durability != "memory" and (sees_all or self._wire == "mesa1"):
            raise Unsupported(
                f"durability: expected 'memory' with report_all_events or wire 'mesa1', got {durability!r}; "
                "there events are delivered once at most, and nothing is recorded about them"
            )
        if self._wire == "mesa1":
            receiver = mesa1_portal_consumer(
                url, namespace=namespace, sees_all=sees_all, lease=lease, timeout=timeout
            )
            return Mesa1Source(receiver, self._calls.observe, concurrency)
        consumer = portal_consumer(
            url, namespace=namespace, lease=lease, timeout=timeout, durability=durability
        )
        if sees_all:
            return ObserverSource(consumer, self._calls.observe, concurrency)
        return QueueSource(consumer, self._calls.handle, concurrency, lease)

    async def _send(self, envelope: Envelope, node: str) -> bool:
        assert self._source is not None  # noqa: S101 - handlers run only while there is one
        return await self._source.reply(envelope, node)
