"""Dispatchers at a hub: from any thread and any event loop, they reach the one of the servers."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

from ...concurrency.blocking import running_loop
from ...errors import BackendUnavailable, MesaError
from ...messages.envelope import Envelope
from ...messages.receipt import Receipt
from ...messages.request import asked_nodes
from ...settings import check_namespace
from ..pending import Pending
from ..queries import Query
from .backend import MemoryHub
from .cluster import check_durability

T = TypeVar("T")

GRACE = 1.0
"""Seconds that the event loop of the servers gets to settle a request whose time is over."""


class _MemoryBus:
    """The steps of a dispatcher at a hub.

    Args:
        hub: the hub of the servers.
        namespace: that of the servers.
        timeout: seconds that a step may wait for the event loop of the servers.
    """

    def __init__(self, hub: MemoryHub, *, namespace: str | None, timeout: float) -> None:
        self._hub = hub
        self._cluster = hub.cluster(check_namespace(namespace))
        self._pending = Pending()
        self._timeout = timeout
        self._is_closed = False

    def _dispatch(self, envelopes: Sequence[Envelope]) -> Future[list[Receipt]]:
        for envelope in envelopes:
            check_durability("durability", envelope.durability)
        return self._step(lambda: [self._cluster.dispatch(envelope) for envelope in envelopes])

    def _query(self, query: Query[T]) -> Future[T]:
        return self._step(lambda: self._cluster.answer(query))

    def _purge(self, id: str) -> Future[int]:
        return self._step(lambda: self._cluster.purge(id))

    def _close(self) -> Future[None]:
        closing = self._hub.step(self._pending.close)
        self._is_closed = True
        return closing

    def _step(self, work: Callable[[], T]) -> Future[T]:
        self._check_open()
        return self._hub.step(work)

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed; make another one")

    def _late(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"MemoryHub: expected the event loop of the servers to answer within {self._timeout:g} s, got no "
            "answer; look for a handler that blocks it",
            maybe_sent=True,
        )


class AsyncMemoryBus(_MemoryBus):
    """`AsyncBus` at a hub. In the event loop of the servers, nothing of it waits but a request."""

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes`; see `AsyncBus.dispatch`."""
        return await self._outcome(self._dispatch(envelopes))

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request; see `AsyncBus.request`."""
        self._check_open()
        asking, loop = self._cluster.request(request, timeout, self._pending), self._hub.loop
        if loop is None or loop is asyncio.get_running_loop():
            return await asking
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, loop))

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return await self._outcome(self._query(query))

    async def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return await self._outcome(self._purge(id))

    async def aclose(self) -> None:
        """Fail the requests that wait, and refuse further calls."""
        await self._outcome(self._close())

    async def _outcome(self, outcome: Future[T]) -> T:
        if outcome.done():
            return outcome.result()
        waited = asyncio.wrap_future(outcome)
        await asyncio.wait({waited}, timeout=self._timeout)
        if not waited.done():
            waited.cancel()
            raise self._late()
        return waited.result()


class BlockingMemoryBus(_MemoryBus):
    """`BlockingBus` at a hub."""

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes`; see `AsyncBus.dispatch`."""
        return self._outcome(self._dispatch(envelopes), self._timeout)

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request; see `AsyncBus.request`.

        Raises:
            MesaError: this is the event loop of the servers, which would wait for itself.
        """
        self._check_open()
        loop = self._hub.loop
        if loop is None:
            asked_nodes(request, Receipt(request.message_id, {}, 0))
        if loop is None or loop is running_loop():
            raise MesaError(
                "Dispatcher.request: expected a thread of its own, got the event loop of the servers, which "
                "has to bring the answer; use AsyncDispatcher there"
            )
        asking = self._cluster.request(request, timeout, self._pending)
        return self._outcome(asyncio.run_coroutine_threadsafe(asking, loop), timeout + GRACE)

    def query(self, query: Query[T]) -> T:
        """Return the answer to a query; see `AsyncBus.query`."""
        return self._outcome(self._query(query), self._timeout)

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox; see `AsyncBus.purge`."""
        return self._outcome(self._purge(id), self._timeout)

    def close(self) -> None:
        """Fail the requests that wait, and refuse further calls."""
        self._outcome(self._close(), self._timeout)

    def _outcome(self, outcome: Future[T], timeout: float) -> T:
        try:
            return outcome.result(timeout)
        except TimeoutError:
            if outcome.done():  # the error of a request
                raise
            outcome.cancel()
            raise self._late() from None
