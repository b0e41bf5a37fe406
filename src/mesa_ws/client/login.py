"""Who the client is, and how it becomes that again on every new connection."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from ..calling import call, call_for_application
from ..errors import TimedOut
from .connection import ClientConnection
from .credentials import Call, Credentials
from .progress import Progress


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

    def is_missing(self, connection: ClientConnection) -> bool:
        """Whether messages have to wait, because the client was somebody and is nobody yet."""
        return self._accepted is not None and not connection.is_authenticated

    def remember(self, connection: ClientConnection) -> None:
        """Repeat from now on what the server accepted on `connection`, if it did."""
        self._accepted = connection.accepted or self._accepted

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
            async with _in_time(credentials) as limit:
                await self._authenticate(connection, credentials, partial(call, limit=limit))
            self._renewed = connection

    async def _authenticate(self, connection: ClientConnection, credentials: Credentials, call: Call) -> Any:
        data = await credentials.resolve(call)
        return await connection.authenticate(credentials, data, self._progress.resumable)


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
