"""The HTTP bus for threads."""

import os
from collections.abc import Iterable, Sequence

import httpcore

from ...errors import BackendUnavailable
from ...messages.envelope import Envelope
from ...messages.receipt import OutboxHead, Receipt, Stored
from ...messages.request import MAX_BLOCKING_REQUESTS
from ..base import IdPage
from ..pending import Quota
from .connections import DeadlineBackend, within
from .exchange import FAILURES, KEEP_ALIVE, Exchange, Plan, T

MAX_CONNECTIONS = 100
"""Dispatches that may be under way at the same time; more wait, within their time limit."""


class BlockingHttpBus:
    """Dispatches through a server's HTTP API; any thread may call it, also after a fork.

    Connections are opened when they are needed and kept for the next call. A request is never
    sent twice: when its answer is lost, the caller hears that it may have been sent.

    Args:
        url: `http(s)://host:port` of the API; a path in front of it is kept.
        key: of that API.
        namespace: what the server has to serve; None for whatever it does.
        timeout: seconds for one dispatch, from the connection to the last byte of the answer.

    Raises:
        InvalidSettings: one of them cannot be used.
    """

    def __init__(
        self, url: str, *, key: str | None = None, namespace: str | None = None, timeout: float = 5.0
    ) -> None:
        self._plan = Plan(url, key, namespace, timeout)
        self._tls = httpcore.default_ssl_context() if self._plan.endpoint.scheme == "https" else None
        self._pools: dict[int, httpcore.ConnectionPool] = {}
        self._quota = Quota(MAX_BLOCKING_REQUESTS)
        self._is_closed = False

    def dispatch(self, envelopes: Sequence[Envelope]) -> list[Receipt]:
        """Send `envelopes` in one request and wait for the receipts, in their order.

        Raises:
            InvalidInput: more than 1000 at once, or the server found one wrong; none was sent.
            BackendUnavailable: no answer within the time limit, or the server's backend is away.
            BackendRefused: another key or namespace, or not a Mesa server.
            Unsupported: the server cannot do it.
        """
        self._check_open()
        return self._ask(self._plan.dispatch(envelopes)) if envelopes else []

    def request(self, request: Envelope, timeout: float) -> bytes:
        """Ask the connections of one id; see `AsyncBus.request`."""
        self._check_open()
        with self._quota.one():
            return self._ask(self._plan.request(request, timeout))

    def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id; errors as in `dispatch`."""
        return self._ask(self._plan.online(ids))

    def count(self) -> int:
        """Count the ids that are online; errors as in `dispatch`."""
        return self._ask(self._plan.count())

    def some_ids(self, cursor: str) -> IdPage:
        """Name some of the ids that are online; errors as in `dispatch`."""
        return self._ask(self._plan.some_ids(cursor))

    def connections(self) -> int:
        """Count the connections, authenticated or not; errors as in `dispatch`."""
        return self._ask(self._plan.connections())

    def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far the outboxes of `ids` are; errors as in `dispatch`."""
        return self._ask(self._plan.heads(ids))

    def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first messages of an outbox; errors as in `dispatch`."""
        return self._ask(self._plan.peek(id, limit))

    def purge(self, id: str) -> int:
        """Drop the messages of an outbox, and tell how many; errors as in `dispatch`."""
        return self._ask(self._plan.purge(id))

    def close(self) -> None:
        """Close the connections. Calls afterwards fail; calling it again is fine."""
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
            _forget(self._pools.pop(other, None))
        return self._pools.setdefault(
            pid,
            httpcore.ConnectionPool(
                ssl_context=self._tls,
                max_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEP_ALIVE,
                network_backend=DeadlineBackend(),
            ),
        )


def _forget(inherited: httpcore.ConnectionPool | None) -> None:
    # The parent goes on with these connections. Its pool may have been locked at the fork, so each
    # is closed here without asking the pool; that closes this process's copy of the socket alone.
    for connection in inherited.connections if inherited else ():
        connection.close()
