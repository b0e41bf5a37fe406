"""The HTTP bus for threads."""

import os
from collections.abc import Sequence

import httpcore

from ...errors import BackendUnavailable
from ...messages.envelope import Envelope, with_unaddressed
from ...messages.receipt import Receipt
from ...messages.request import MAX_BLOCKING_REQUESTS
from ..pending import Quota
from ..queries import Query
from .connections import DeadlineBackend, within
from .exchange import FAILURES, KEEP_ALIVE, Exchange, HttpApi, T

MAX_CONNECTIONS = 100
"""Largest number of dispatches at the same time; more wait, within their time limit."""


class BlockingHttpBus:
    """Dispatches through a server's HTTP API; any thread may call it, also after a fork.

    A call opens a connection if there is no idle one, and leaves it for the next call. A request is never
    sent twice: when its answer is lost, the error says that messages may have been sent.

    Args:
        url, key, namespace: as in `AsyncHttpBus`.
        timeout: seconds for one dispatch, from the connection to the last byte of the answer.
    """

    def __init__(
        self, url: str, *, key: str | None = None, namespace: str | None = None, timeout: float = 5.0
    ) -> None:
        self._api = HttpApi(url, key, namespace, timeout)
        self._tls = httpcore.default_ssl_context() if self._api.endpoint.scheme == "https" else None
        self._pools: dict[int, httpcore.ConnectionPool] = {}
        self._quota = Quota(MAX_BLOCKING_REQUESTS)
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one request and wait for the receipts; see `AsyncHttpBus.dispatch`."""
        self._check_open()
        if any(envelope.kind == "order" for envelope in envelopes):
            return [self._ask(self._api.order(envelope)) for envelope in envelopes]
        addressed = [envelope for envelope in envelopes if envelope.is_addressed]
        receipts = self._ask(self._api.dispatch(addressed)) if addressed else []
        return with_unaddressed(envelopes, receipts)

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Send a request to the connections of one id; see `AsyncBus.request`."""
        self._check_open()
        with self._quota.one():
            return self._ask(self._api.request(request, timeout))

    def query(self, query: Query[T]) -> T:
        """Return the answer to a query; errors as in `dispatch`."""
        return self._ask(self._api.query(query))

    def purge(self, id: str) -> int:
        """Drop the messages of an outbox, and return their number; errors as in `dispatch`."""
        return self._ask(self._api.purge(id))

    def close(self) -> None:
        """Close the connections. Later calls fail; calling it again is fine."""
        self._is_closed = True
        self._pool().close()

    def _ask(self, exchange: Exchange[T]) -> T:
        self._check_open()
        try:
            response = self._pool().request(
                "POST",
                exchange.url,
                headers=exchange.headers,
                content=exchange.parts(),
                extensions=within(exchange.timeout),
            )
        except FAILURES as error:
            raise exchange.failed(error) from error
        return exchange.answer(response.status, response.content)

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")

    def _pool(self) -> httpcore.ConnectionPool:
        pid = os.getpid()
        return self._pools.get(pid) or self._opened(pid)

    def _opened(self, pid: int) -> httpcore.ConnectionPool:
        for other in set(self._pools) - {pid}:
            _close_inherited(self._pools.pop(other, None))
        return self._pools.setdefault(
            pid,
            httpcore.ConnectionPool(
                ssl_context=self._tls,
                max_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE,
                network_backend=DeadlineBackend(),
            ),
        )


def _close_inherited(inherited: httpcore.ConnectionPool | None) -> None:
    # The parent process goes on using these connections. Its pool may have been locked at the fork, so this
    # closes each connection without the pool, and with it only this process's copy of the socket.
    for connection in inherited.connections if inherited else ():
        connection.close()
