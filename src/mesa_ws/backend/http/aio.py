"""The HTTP bus for asyncio."""

import asyncio
import ssl
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import httpcore

from ...envelope import Envelope, Receipt
from ...errors import BackendUnavailable
from .handshake import HandshakeBackend
from .plan import FAILURES, KEEP_ALIVE, Plan


class AsyncHttpBus:
    """Dispatches through a server's HTTP API, one request after another, in the order of the calls.

    A call that is cancelled takes its connection with it, so its answer reaches nobody else. A
    request is never sent twice: when its answer is lost, the caller hears that it may have been
    sent. Each event loop that calls has a connection and an order of its own.

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
        self._tls = httpcore.default_ssl_context() if self._plan.endpoint.scheme == "https" else None
        self._lanes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Lane] = WeakKeyDictionary()
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
        if not envelopes:
            return []
        exchange, lane = self._plan.exchange(envelopes), self._lane()
        try:
            async with asyncio.timeout(self._plan.timeout), lane.turn:
                self._check_open()
                response = await lane.pool.request(
                    "POST", self._plan.url, headers=exchange.headers, content=exchange.aparts()
                )
        except FAILURES as error:
            raise exchange.failed(error) from error
        return exchange.receipts(response.status, response.content)

    async def aclose(self) -> None:
        """Close the connection; calls under way and afterwards fail. Calling it again is fine."""
        self._is_closed = True
        await self._lane().pool.aclose()

    def _check_open(self) -> None:
        if self._is_closed:
            raise BackendUnavailable("the dispatcher is closed")

    def _lane(self) -> "_Lane":
        loop = asyncio.get_running_loop()
        if loop not in self._lanes:
            self._lanes[loop] = _Lane(self._tls)
        return self._lanes[loop]


class _Lane:
    """The connection of one event loop, and whose turn it is."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.turn = asyncio.Lock()
        self.pool = httpcore.AsyncConnectionPool(
            ssl_context=tls, keepalive_expiry=KEEP_ALIVE, network_backend=HandshakeBackend()
        )
