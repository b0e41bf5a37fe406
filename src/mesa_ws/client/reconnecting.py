"""Staying connected: the first connection, those after it, and the end.

new ──connect──▶ up ──lost──▶ away ──▶ up again, authenticated as before
                  │            │
                  └─ closed by the application, refused, or reconnection is off ─▶ ended
"""

import asyncio
import logging
from functools import partial
from typing import Any

from ..close import CloseCode, may_reconnect
from ..concurrency.retry import ReconnectBackoff
from ..concurrency.tasks import OwnTask, persist, start
from ..errors import ConnectFailed, MesaError, TimedOut
from ..messages.message import Message
from ..messages.receipt import Position
from ..protocol.client import Hello
from ..protocol.positions import NOWHERE
from ..settings import ClientSettings
from ..transports.client_socket import ServerAddress
from .acknowledging import Acknowledging, PositionStore
from .callbacks import RequestHandlers
from .connection import ClientConnection, Credentials
from .event_queue import CLOSED_BY_US, ConnectionInfo, Disconnection, Ending, EventQueue, QueueLevel
from .login import Login
from .offline_queue import OfflineQueue

log = logging.getLogger("mesa_ws.client")


class ReconnectingConnection:
    """The connections of a client, one after another.

    Attributes:
        event_queue: messages from the server, and events of the connections.
        offline_queue: messages to the server.
        acknowledging: saves and acknowledges the positions of handled messages.
        request_handlers: answer the server's requests.
        connection: the current connection; None while the client is away.
        ending: why the client has ended; None before.
    """

    def __init__(self, address: ServerAddress, settings: ClientSettings, store: PositionStore | None) -> None:
        self._address = address
        self._settings = settings
        self._backoff = ReconnectBackoff(settings.reconnect)
        self._task: OwnTask | None = None
        self._connecting = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._is_over = asyncio.Event()
        self.acknowledging = Acknowledging(store, self._acknowledge, self._report)
        self.event_queue = EventQueue(settings.limits.max_queued, self._throttle, self.acknowledging.handled)
        self.request_handlers = RequestHandlers(settings.limits.max_requests, self._report)
        self._login = Login(self.acknowledging, is_automatic=settings.reconnect.authenticate)
        self._positions = NOWHERE  # received up to the connection before
        self.offline_queue = OfflineQueue(settings.queue_size, self._is_final)
        self.connection: ClientConnection | None = None
        self.ending: Ending | None = None

    def check_begun(self) -> None:
        """Raise `MesaError` if `connect` was not called."""
        if self._task is None and self.ending is None and not self._connecting.locked():
            raise MesaError(
                "the client is not connected; use `async with Client(url) as client`, "
                "or `await client.connect()`"
            )

    async def connect(self) -> bool:
        """Open the first connection; return False if it was opened before. See `Client.connect`."""
        async with self._connecting:
            if self._task is not None or self.ending is not None:
                self._check_not_over()
                return False
            if self._positions is NOWHERE:
                self._positions = await self.acknowledging.load()
            connection = await self._open()
            try:
                self._check_not_over()
            except MesaError:
                await connection.aclose()
                raise
            self._begin(connection, is_first=True)
            self._task = OwnTask(partial(self._keep, connection))
            return True

    async def authenticate(self, credentials: Credentials) -> Any:
        """Authenticate the current connection, or else the next one; see `Login.attempt`."""
        return await self._login.attempt(self._current, credentials)

    async def request(self, body: bytes, timeout: float) -> Message:
        """Send a request over the current connection, or else the next one; see `Client.request`."""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                connection = await self.offline_queue.next_in_line()
                return await connection.request(body)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(
                f"request: expected an answer within {timeout:g} s, got none; the server may handle it all "
                "the same"
            ) from None

    async def aclose(self, code: int = CloseCode.NORMAL) -> None:
        """Close the connection with `code`, and do not reconnect. Cancelling cuts the connection."""
        if self.ending is None:
            self._end(CLOSED_BY_US._replace(code=code))
        async with self._closing:
            try:
                await self._leave(code)
            except asyncio.CancelledError:
                if self.connection is not None:
                    self.connection.websocket.abort()
                raise
            finally:
                self._finish()

    async def wait_over(self) -> Ending:
        """Wait for the end of the client, and return it."""
        await self._is_over.wait()
        assert self.ending is not None  # noqa: S101 - set before the event is
        return self.ending

    def _report(self, error: Exception) -> None:
        self.event_queue.happened(error)

    # The connections, one after another.

    async def _keep(self, connection: ClientConnection) -> None:
        while True:
            await persist(partial(self._attend, connection))
            if self.ending is not None:
                return
            ending = connection.ending()
            if self._is_final(connection):
                self._lose(connection, ending, will_reconnect=False)
                self._end(ending)
                self._finish()
                return
            self._lose(connection, ending, will_reconnect=True)
            back = partial(self._come_back, self._first_pause(connection), connection.hello)
            connection = await persist(back)
            self._begin(connection, is_first=False)

    async def _attend(self, connection: ClientConnection) -> None:
        """Authenticate a new connection, send what waits, and wait for its end."""
        try:
            await self._login.renew(connection)
        except Exception as error:  # noqa: BLE001 - the application's function may have raised it
            self._give_up(connection, error)
        if self._login.is_missing(connection):
            await connection.wait_authenticated()
        self.offline_queue.attach(connection)
        await self.offline_queue.flush()
        while not (connection.websocket.ended.done() or connection.leave.done()):
            waited: set[asyncio.Future[Any]] = {
                connection.websocket.ended,
                connection.leave,
                connection.expiring,
            }
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if connection.expiring.done():
                await self._extend(connection)
        if connection.leave.done() and self._settings.reconnect.enabled:
            await self._move_out(connection)
        await asyncio.wait({connection.websocket.ended})

    async def _extend(self, connection: ClientConnection) -> None:
        """Authenticate again. If that fails, the connection stays until the server closes it."""
        try:
            await self._login.extend(connection)
        except Exception as error:
            if connection.websocket.is_open:
                log.warning("cannot authenticate again before the login ends", exc_info=error)
                self.event_queue.happened(error)

    async def _move_out(self, connection: ClientConnection) -> None:
        """Leave a server that is about to stop, once everything received is handled and acknowledged."""
        handled = start(self.event_queue.mark().wait())
        waited: set[asyncio.Future[Any]] = {connection.websocket.ended, handled}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            handled.cancel()
        await self.acknowledging.flush()
        connection.websocket.close(CloseCode.NORMAL, "the server asked the client to reconnect later")

    def _give_up(self, connection: ClientConnection, error: Exception) -> None:
        """Close a connection that cannot be authenticated; if it has ended already, report nothing."""
        if connection.websocket.is_open:
            log.warning("cannot authenticate again; trying on another connection", exc_info=error)
            self.event_queue.happened(error)
            connection.websocket.close(CloseCode.NORMAL, "")

    def _begin(self, connection: ClientConnection, *, is_first: bool) -> None:
        log.info("connected to %s", self._address)
        self.connection = connection
        self.event_queue.happened(ConnectionInfo.of(connection.hello, is_first=is_first))
        connection.start()
        connection.throttle(self.event_queue.level)
        if not self._login.is_missing(connection):
            self.offline_queue.attach(connection)
        self._changed.set()

    def _lose(self, connection: ClientConnection, ending: Ending, *, will_reconnect: bool) -> None:
        log.info("the connection to %s ended with %d %r", self._address, ending.code, ending.reason)
        if will_reconnect and ending.code == CloseCode.REFUSED:
            log.warning("the server refused this client, which reconnects with new authentication data")
        self.connection = None
        self._positions = connection.positions
        self.offline_queue.detach()
        self._login.remember(connection)
        if not self._login.is_missing(connection):
            self._backoff.lasted(asyncio.get_running_loop().time() - connection.usable_since)
        self.event_queue.happened(Disconnection(ending.code, ending.reason, will_reconnect))

    def _first_pause(self, connection: ClientConnection) -> float:
        if connection.leave.done():
            return self._backoff.after(connection.leave.result())
        return self._backoff.next(connection.hello.reconnect_interval)

    async def _come_back(self, pause: float, hello: Hello) -> ClientConnection:
        while True:
            log.info("connecting to %s again in %.1f s", self._address, pause)
            await asyncio.sleep(pause)
            try:
                return await self._open()
            except ConnectFailed as error:
                log.info("%s", error)
                pause = self._backoff.next(hello.reconnect_interval, error.retry_after)

    def _end(self, ending: Ending) -> None:
        self.ending = ending
        self.offline_queue.end(ending)
        self.event_queue.end(ending)
        self._changed.set()

    async def _leave(self, code: int) -> None:
        if self._task is not None:
            self._task.cancel()
            await self._task.finish()
        if self.connection is not None:
            await self.acknowledging.flush()
            ended = await self.connection.aclose(code)
            self.connection = None
            self.event_queue.happened(Disconnection(*ended, will_reconnect=False))

    def _finish(self) -> None:
        self.event_queue.finish()
        self._is_over.set()

    async def _current(self) -> ClientConnection:
        while self.connection is None or not self.connection.websocket.is_open:
            self._check_not_over()
            self._changed.clear()
            await self._changed.wait()
        return self.connection

    def _is_final(self, connection: ClientConnection) -> bool:
        code = connection.ending().code
        is_worth_a_token = code == CloseCode.REFUSED and self._login.may_return(connection)
        return not (self._settings.reconnect.enabled and (may_reconnect(code) or is_worth_a_token))

    def _check_not_over(self) -> None:
        if self.ending is not None:
            raise self.ending.error()

    async def _open(self) -> ClientConnection:
        connection = ClientConnection(
            self._settings, self._positions, self.acknowledging, self.event_queue, self.request_handlers
        )
        await connection.open(self._address)
        return connection

    def _acknowledge(self, position: Position) -> None:
        if self.connection is not None:
            self.connection.acknowledge(position)

    def _throttle(self, level: QueueLevel) -> None:
        if self.connection is not None:
            self.connection.throttle(level)
