"""The HTTP bus for asyncio."""

import asyncio
import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import httpcore

from ...concurrency.event_loops import PerLoop
from ...errors import BackendUnavailable
from ...messages.envelope import Envelope, with_unaddressed
from ...messages.receipt import Receipt
from ..pending import too_many
from ..queries import Query
from .exchange import FAILURES, KEEP_ALIVE, Exchange, HttpApi, T
from .streams import AsyncioBackend

MAX_REQUESTS = 100
"""Largest number of pending requests; each has a connection of its own."""


class AsyncHttpBus:
    """Dispatches through a server's HTTP API, one request after another, in the order of the calls.

    Cancelling a call closes its connection, so no other call can get its answer. A request is never
    sent twice: when its answer is lost, the error says that messages may have been sent. Each event
    loop has a connection and an order of its own. The next call closes the connections of event loops
    that have ended.

    Args:
        url: `http(s)://host:port` of the API; a path before its paths is kept.
        key: of that API.
        namespace: namespace that the server has to serve; None for any.
        timeout: seconds for one dispatch, from the call to the last byte of the answer; waiting
            for earlier calls counts.

    Raises:
        InvalidSettings: an argument cannot be used.
    """

    def __init__(
        self, url: str, *, key: str | None = None, namespace: str | None = None, timeout: float = 5.0
    ) -> None:
        self._api = HttpApi(url, key, namespace, timeout)
        tls = httpcore.default_ssl_context() if self._api.endpoint.scheme == "https" else None
        self._per_loop = PerLoop(
            lambda: _LoopConnections(tls), _LoopConnections.aclose, _LoopConnections.abandon
        )
        self._is_closed = False

    async def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one request and wait for the receipts, in their order.

        Raises:
            InvalidInput: more than 1000 at once, or the server refused one of them; none was sent.
            BackendUnavailable: no answer within the time limit, or the server's backend is away.
            BackendRefused: wrong key or namespace, or not a Mesa server.
            Unsupported: the server does not offer the durability.
        """
        self._check_open()
        if any(envelope.kind == "order" for envelope in envelopes):
            return [await self._ask(self._api.order(envelope)) for envelope in envelopes]
        addressed = [envelope for envelope in envelopes if envelope.is_addressed]
        receipts = await self._ask(self._api.dispatch(addressed)) if addressed else []
        return with_unaddressed(envelopes, receipts)

    async def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request to the connections of one id; see `AsyncBus.request`.

        Requests do not wait for each other or for dispatches: up to 100 are sent at a time.
        """
        self._check_open()
        own = self._per_loop.get()
        if own.pending >= MAX_REQUESTS:
            raise too_many(MAX_REQUESTS)
        own.pending += 1
        try:
            return await self._send(self._api.request(request, timeout), own.for_requests)
        finally:
            own.pending -= 1

    async def query(self, query: Query[T]) -> T:
        """Return the answer to a query; errors as in `dispatch`."""
        return await self._ask(self._api.query(query))

    async def purge(self, id: str) -> int:
        """Drop the messages of an outbox, and return their number; errors as in `dispatch`."""
        return await self._ask(self._api.purge(id))

    async def aclose(self) -> None:
        """Close all connections; calls in progress and later calls fail. Calling it again is fine."""
        self._is_closed = True
        await self._per_loop.aclose()

    async def _ask(self, exchange: Exchange[T]) -> T:
        self._check_open()
        own = self._per_loop.get()
        return await self._send(exchange, own.for_dispatches, own.in_turn)

    async def _send(
        self,
        exchange: Exchange[T],
        pool: httpcore.AsyncConnectionPool,
        in_turn: AbstractAsyncContextManager[Any] = nullcontext(),  # noqa: B008 - it has no state
    ) -> T:
        try:
            async with asyncio.timeout(exchange.timeout), in_turn:
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


class _LoopConnections:
    """Connections of one event loop: one for dispatches, in turn, and one for each pending request."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self._network = AsyncioBackend()
        self.in_turn = asyncio.Lock()
        self.for_dispatches = self._pool(tls, 1)
        self.for_requests = self._pool(tls, MAX_REQUESTS)
        self.pending = 0

    async def aclose(self) -> None:
        """Close all connections."""
        await self.for_dispatches.aclose()
        await self.for_requests.aclose()

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
