"""The HTTP bus for asyncio."""

import asyncio
import ssl
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import httpcore

from ...concurrency.event_loops import PerLoop
from ...errors import BackendUnavailable
from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Receipt, Stored
from ..base import IdPage
from ..pending import too_many
from .exchange import FAILURES, KEEP_ALIVE, Exchange, Plan, T
from .streams import AsyncioBackend

MAX_REQUESTS = 100
"""Requests that may wait for their answers at a time; each has a connection meanwhile."""


class AsyncHttpBus:
    """Dispatches through a server's HTTP API, one request after another, in the order of the calls.

    A call that is cancelled takes its connection with it, so its answer reaches nobody else. A
    request is never sent twice: when its answer is lost, the caller hears that it may have been
    sent. Each event loop that calls has a connection and an order of its own. The next call closes
    what belongs to loops that have ended.

    Args:
        url: `http(s)://host:port` of the API; a path in front of it is kept.
        key: of that API.
        namespace: what the server has to serve; None for whatever it does.
        timeout: seconds for one dispatch, from the call to the last byte of the answer; waiting
            for earlier calls counts.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(
        self, url: str, *, key: str | None = None, namespace: str | None = None, timeout: float = 5.0
    ) -> None:
        self._plan = Plan(url, key, namespace, timeout)
        tls = httpcore.default_ssl_context() if self._plan.endpoint.scheme == "https" else None
        self._lanes = PerLoop(lambda: _Lane(tls), _Lane.aclose, _Lane.abandon)
        self._is_closed = False

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one request and wait for the receipts, in their order.

        Raises:
            InvalidInput: more than 1000 at once, or the server found one wrong; none was sent.
            BackendUnavailable: no answer within the time limit, or the server's backend is away.
            BackendRefused: another key or namespace, or not a Mesa server.
            Unsupported: the server cannot do it.
        """
        self._check_open()
        return await self._ask(self._plan.dispatch(envelopes)) if envelopes else []

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`.

        Requests wait for nothing but their answers: up to 100 at a time, beside what is dispatched.
        """
        self._check_open()
        lane = self._lanes.get()
        if lane.asking >= MAX_REQUESTS:
            raise too_many(MAX_REQUESTS)
        lane.asking += 1
        try:
            return await self._send(self._plan.request(request, timeout), lane.questions)
        finally:
            lane.asking -= 1

    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id; errors as in `dispatch`."""
        return await self._ask(self._plan.online(ids))

    async def count(self) -> int:
        """Count the ids that are online; errors as in `dispatch`."""
        return await self._ask(self._plan.count())

    async def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that are online; errors as in `dispatch`."""
        return await self._ask(self._plan.some_ids(cursor))

    async def connections(self) -> int:
        """Count the connections, authenticated or not; errors as in `dispatch`."""
        return await self._ask(self._plan.connections())

    async def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are; errors as in `dispatch`."""
        return await self._ask(self._plan.heads(ids))

    async def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first messages of an outbox; errors as in `dispatch`."""
        return await self._ask(self._plan.peek(id, limit))

    async def purge(self, id: str) -> int:
        """Drop the messages of an outbox, and tell how many; errors as in `dispatch`."""
        return await self._ask(self._plan.purge(id))

    async def aclose(self) -> None:
        """Close the connection; calls under way and afterwards fail. Calling it again is fine."""
        self._is_closed = True
        await self._lanes.aclose()

    async def _ask(self, exchange: Exchange[T]) -> T:
        self._check_open()
        lane = self._lanes.get()
        return await self._send(exchange, lane.pool, lane.turn)

    async def _send(
        self,
        exchange: Exchange[T],
        pool: httpcore.AsyncConnectionPool,
        turn: AbstractAsyncContextManager[Any] = nullcontext(),  # noqa: B008 - it has no state
    ) -> T:
        try:
            async with asyncio.timeout(exchange.timeout), turn:
                self._check_open()
                response = await pool.request(
                    "POST", exchange.url, headers=exchange.headers, content=exchange.aparts()
                )
        except FAILURES as error:
            raise exchange.failed(error) from error
        return exchange.answer(response.status, response.content)

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")


class _Lane:
    """The connection of one event loop, and whose turn it is; and those that requests wait on."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._network = AsyncioBackend()
        self.turn = asyncio.Lock()
        self.pool = self._pool(tls, 1)
        self.questions = self._pool(tls, MAX_REQUESTS)
        self.asking = 0

    async def aclose(self) -> None:
        """Close all connections."""
        await self.pool.aclose()
        await self.questions.aclose()

    def abandon(self) -> None:
        """Close all connections after the event loop was closed. Never waits."""
        self._network.abandon()

    def _pool(self, tls: ssl.SSLContext | None, most: int) -> httpcore.AsyncConnectionPool:
        return httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=most,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=self._network,
        )
