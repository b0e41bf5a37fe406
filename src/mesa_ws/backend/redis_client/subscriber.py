"""Subscription to channels that reconnects by itself."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress

from redis.exceptions import ConnectionError as RedisConnectionError

from ...concurrency.retry import Backoff
from ...concurrency.tasks import Tasks
from ...errors import BackendError
from .address import Address
from .connection import AsyncConnection, packed
from .failures import FOREIGN, forbidden_subscribe, is_forbidden, raise_first
from .resolver import MasterWatch

_log = logging.getLogger("mesa_ws.backend")


class Subscriber:
    """A subscription that is kept up until it is closed.

    Args:
        address: where to connect.
        channels: channels to subscribe to.
        on_frame: called in the event loop with each message; must not raise.
        on_return: called in the event loop when a lost subscription is restored, before
            `is_subscribed` is true again; must not raise.
        timeout: seconds for connecting and subscribing.
        others: further channels, each with a function to call instead of `on_frame`.
        name: name of the connection in CLIENT LIST, if the user has the right to set it.
    """

    def __init__(
        self,
        address: Address,
        channels: list[str] | tuple[str, ...],
        on_frame: Callable[[bytes], None],
        on_return: Callable[[], None],
        timeout: float,
        *,
        others: Mapping[str, Callable[[bytes], None]] | None = None,
        name: str = "",
    ) -> None:
        self._address = address
        others = others or {}
        self._channels = (*channels, *others)
        handlers = {**dict.fromkeys(channels, on_frame), **others}
        self._handlers = {channel.encode(): handler for channel, handler in handlers.items()}
        self._subscription = packed([("SUBSCRIBE", *self._channels)])
        self._name = name
        self._on_return = on_return
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._tasks = Tasks()
        self._backoff = Backoff(0.05, 2.0)
        self._echo = asyncio.Event()
        self._is_closed = False
        self._following: MasterWatch | None = None
        self._attempt: asyncio.Timeout | None = None
        self._left = asyncio.Event()

    @property
    def is_subscribed(self) -> bool:
        """Whether Redis has confirmed the subscription, as far as is known."""
        return self._connection is not None

    async def open(self) -> None:
        """Subscribe, and keep the subscription from now on.

        Raises:
            BackendUnavailable: Redis cannot be reached.
            BackendRefused: Redis refuses the subscription.
        """
        while self._connection is None:
            self._left.clear()
            try:
                self._connection = await self._subscribe()
            except FOREIGN as error:
                if not self._left.is_set():
                    raise self._failed(error) from error
        self._tasks.start(self._keep_subscribed, "subscriber")

    async def restart(self) -> None:
        """Subscribe on a new connection, because the present one seems to be dead."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.end()

    async def is_alive(self, timeout: float) -> bool:
        """Ask Redis for a sign of life, for at most `timeout` seconds.

        A network may silently drop a connection, and a process that only listens would never notice.
        """
        connection = self._connection
        if connection is None:
            return False
        self._echo.clear()
        try:
            async with asyncio.timeout(timeout):
                # A second SUBSCRIBE changes nothing, and every subscriber has the right to it.
                connection.send(self._subscription)
                await self._echo.wait()
        except FOREIGN as error:
            _log.debug("%s: no sign of life (%s)", self._address.label, type(error).__name__)
        return self._connection is connection and self._echo.is_set()

    async def aclose(self) -> None:
        """Stop listening."""
        self._is_closed = True
        self._unfollow()
        await self._tasks.aclose(self._timeout)
        await self.restart()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed. Never waits."""
        self._is_closed = True
        self._unfollow()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        self._tasks.abandon()

    def _failed(self, error: Exception) -> BackendError:
        if is_forbidden(error):
            return forbidden_subscribe(self._address.label, self._channels, error)
        return self._address.failed(error)

    async def _keep_subscribed(self) -> None:
        """Listen, and subscribe again whenever the connection has ended."""
        while not self._is_closed:
            if self._connection is None:
                await self._resubscribe()
            else:
                await self._listen(self._connection)

    async def _listen(self, connection: AsyncConnection) -> None:
        """Pass each message to the function of its channel, until the connection ends."""
        try:
            await connection.listen(self._handlers, self._echo.set)
        except FOREIGN as error:
            _log.warning(
                "%s: cut off from the messages of other processes; stored ones are read later (%s)",
                self._address.label,
                error,
            )
        finally:  # whatever the reason: messages may be lost from here on, so reconnect
            if self._connection is connection:
                self._connection = None
            connection.end()

    async def _resubscribe(self) -> None:
        """Subscribe again, or wait before the next attempt."""
        try:
            connection = await self._subscribe()
        except FOREIGN as error:
            _log.debug("%s", self._address.failed(error))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._backoff.next()):
                    await self._left.wait()
                self._backoff.reset()
            self._left.clear()
        else:
            self._backoff.reset()
            self._on_return()
            self._connection = connection
            _log.info("%s: receiving the messages of other processes again", self._address.label)

    async def _subscribe(self) -> AsyncConnection:
        """Connect, before Sentinels name another master, and wait until Redis confirmed the subscription."""
        if self._following is None:
            self._following = self._address.follow(self._on_left)
        try:
            async with asyncio.timeout(self._timeout) as self._attempt:
                connection = await self._address.aconnect(self._timeout)
                try:
                    if self._name:
                        await connection.converse([("CLIENT", "SETNAME", self._name)])
                    connection.send(self._subscription)
                    for _ in self._channels:
                        raise_first([await connection.read()])
                    if connection.master.is_left:
                        raise RedisConnectionError("another master was named")
                except BaseException:
                    connection.end()
                    raise
        finally:
            self._attempt = None
        return connection

    def _on_left(self) -> None:
        """Reconnect, to the new master."""
        self._left.set()
        now = asyncio.get_running_loop().time()
        if self._attempt is not None:
            self._attempt.reschedule(now)
        connection = self._connection
        if connection is not None and connection.master.is_left:
            self._connection = None
            connection.end()

    def _unfollow(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.close()
