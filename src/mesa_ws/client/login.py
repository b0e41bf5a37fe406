"""Who the client is, and how it becomes that again on every new connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ..close import CloseCode
from ..errors import TimedOut
from ..handlers import call, call_for_application
from .acknowledging import Progress
from .connection import Call, ClientConnection, Credentials

MAX_RETURNS = 3
"""Times in a row that a client comes back after a refusal, with data that its function made anew."""


class Login:
    """Authenticates connections, one attempt at a time.

    Args:
        progress: from where to go on.
        is_automatic: whether new connections are authenticated without being asked.
    """

    def __init__(self, progress: Progress, *, is_automatic: bool) -> None:
        self._progress = progress
        self._is_automatic = is_automatic
        self._turn = asyncio.Lock()
        self._accepted: Credentials | None = None
        self._renewed: ClientConnection | None = None
        self._refusals = 0  # in a row, up to the connection before

    def is_missing(self, connection: ClientConnection) -> bool:
        """Whether messages have to wait, because the client was somebody and is nobody yet."""
        return self._accepted is not None and not connection.is_authenticated

    def may_return(self, connection: ClientConnection) -> bool:
        """Whether to try again after `connection` ended with a refusal, because a token may have expired.

        Only a function of the application can make another token. A connection on which the client was
        accepted, and did not authenticate again, was closed by the application of the server.
        """
        refused = connection.attempt
        if refused is None and self._is_automatic and not connection.is_authenticated:
            refused = self._accepted
        if refused is None or refused.is_fixed:
            return False
        return self._refusals_before(connection) < MAX_RETURNS

    def remember(self, connection: ClientConnection) -> None:
        """Repeat from now on what the server accepted on `connection`, if it did; count refusals."""
        self._accepted = connection.accepted or self._accepted
        self._refusals = self._refusals_before(connection)
        if connection.ending().code == CloseCode.REFUSED:
            self._refusals += 1

    async def attempt(
        self, connect: Callable[[], Awaitable[ClientConnection]], credentials: Credentials
    ) -> Any:
        """Authenticate the connection that `connect` waits for.

        Returns:
            The user object that the server sent.

        Raises:
            InvalidMessage: the data cannot be sent.
            AuthenticationFailed: the server refused.
            ConnectionClosed: the connection ended before the answer.
            TimedOut: no connection, or no answer, in time.
        """
        async with _in_time(credentials), self._turn:
            connection = await connect()
            if connection is self._renewed and connection.accepted == credentials:
                # Done already, and a 1.x server would not answer. Only once: asking again later
                # is the application's right.
                self._renewed = None
                return connection.user
            return await self._authenticate(connection, credentials, call_for_application)

    async def renew(self, connection: ClientConnection) -> None:
        """Repeat on a new connection what was accepted last, if anything was.

        Raises:
            TimedOut: no answer in time.
            Exception: whatever else `attempt` raises, and what the application's function does.
        """
        async with self._turn:
            credentials = self._accepted
            if credentials is None or connection.is_authenticated or not self._is_automatic:
                return
            if not connection.wire.is_open:  # another attempt was refused, and decides what comes now
                return
            async with _in_time(credentials) as limit:
                await self._authenticate(connection, credentials, partial(call, limit=limit))
            self._renewed = connection

    async def _authenticate(self, connection: ClientConnection, credentials: Credentials, call: Call) -> Any:
        connection.preparing = credentials
        try:
            data = await credentials.resolve(call)
        finally:
            connection.preparing = None
        return await connection.authenticate(credentials, data, self._progress.resumable)

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
            f"expected an answer to the authentication within {credentials.timeout:g} s, got none; "
            "the server is away, too slow, or keeps those it refuses (disconnect_on_fail=False)"
        ) from None
