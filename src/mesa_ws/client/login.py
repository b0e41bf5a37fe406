"""Authentication of a client, repeated on every new connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ..close import CloseCode
from ..errors import TimedOut
from ..handlers.caller import call, call_for_application
from .acknowledging import Acknowledging
from .connection import CallFunction, ClientConnection, Credentials

MAX_RETURNS = 3
"""Times in a row that a client reconnects after a refusal, with new data from the application's function."""


class Login:
    """Authenticates connections, one attempt at a time."""

    def __init__(self, acknowledging: Acknowledging, *, is_automatic: bool) -> None:
        self._acknowledging = acknowledging
        self._is_automatic = is_automatic
        self._turn = asyncio.Lock()
        self._accepted: Credentials | None = None
        self._renewed: ClientConnection | None = None
        self._refusals = 0  # in a row, up to the connection before

    def is_missing(self, connection: ClientConnection) -> bool:
        """Return whether messages have to wait until the client is authenticated again."""
        return self._accepted is not None and not connection.is_authenticated

    def may_return(self, connection: ClientConnection) -> bool:
        """Return whether to try again after a refusal ended `connection`, because a token may have expired.

        Only a function of the application can make another token. If the client was accepted on this
        connection, and did not authenticate again, the server's application closed the connection.
        """
        refused = connection.attempt
        if refused is None and self._is_automatic and not connection.is_authenticated:
            refused = self._accepted
        if refused is None or refused.is_fixed:
            return False
        return self._refusals_before(connection) < MAX_RETURNS

    def remember(self, connection: ClientConnection) -> None:
        """Repeat from now on the credentials that the server accepted on `connection`, and count refusals."""
        self._accepted = connection.accepted or self._accepted
        self._refusals = self._refusals_before(connection)
        if connection.ending().code == CloseCode.REFUSED:
            self._refusals += 1

    async def attempt(
        self, connect: Callable[[], Awaitable[ClientConnection]], credentials: Credentials
    ) -> Any:
        """Authenticate the connection that `connect` waits for; see `Client.authenticate`."""
        async with _in_time(credentials), self._turn:
            connection = await connect()
            if connection is self._renewed and connection.accepted == credentials:
                # `renew` has done it, and a 1.x server would not answer a second time. Only once: the
                # application may authenticate again later.
                self._renewed = None
                return connection.user
            return await self._authenticate(connection, credentials, call_for_application)

    async def renew(self, connection: ClientConnection) -> None:
        """Authenticate a new connection with the credentials that were accepted last, if any were.

        Raises:
            TimedOut: no answer in time.
            Exception: any other error of `attempt`, or of the application's function.
        """
        async with self._turn:
            credentials = self._accepted
            if credentials is None or connection.is_authenticated or not self._is_automatic:
                return
            if not connection.websocket.is_open:  # another attempt was refused, and decides what follows
                return
            async with _in_time(credentials) as limit:
                await self._authenticate(connection, credentials, partial(call, limit=limit))
            self._renewed = connection

    async def extend(self, connection: ClientConnection) -> None:
        """Authenticate again before the login ends, if a function of the application makes other data.

        Raises:
            TimedOut: no answer in time.
            Exception: any other error of `attempt`, or of the application's function.
        """
        connection.expiring = asyncio.get_running_loop().create_future()
        async with self._turn:
            credentials = connection.accepted
            if credentials is None or credentials.is_fixed or not self._is_automatic:
                return
            async with _in_time(credentials) as limit:
                await self._authenticate(connection, credentials, partial(call, limit=limit))

    async def _authenticate(
        self, connection: ClientConnection, credentials: Credentials, call: CallFunction
    ) -> Any:
        connection.preparing = credentials
        try:
            data = await credentials.resolve(call)
        finally:
            connection.preparing = None
        return await connection.authenticate(credentials, data, self._acknowledging.resumable)

    def _refusals_before(self, connection: ClientConnection) -> int:
        return 0 if connection.is_authenticated else self._refusals


@asynccontextmanager
async def _in_time(credentials: Credentials) -> AsyncIterator[asyncio.Timeout]:
    limit = asyncio.timeout(credentials.timeout)
    try:
        async with limit:
            yield limit
    except TimeoutError:
        if not limit.expired():
            raise
        raise TimedOut(
            f"expected an answer to the authentication within {credentials.timeout:g} s, got none; the "
            "server is away or too slow, or it refused and keeps the connection (disconnect_on_fail=False)"
        ) from None
