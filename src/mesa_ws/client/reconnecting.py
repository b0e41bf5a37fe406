"""Staying connected: the first connection, those after it, and the end.

new ──connect──▶ up ──lost──▶ away ──▶ up again, authenticated as before
                  │            │
                  └─ closed by us, refused, or reconnection is off ─▶ ended
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from ..close import CloseCode, may_reconnect
from ..concurrency.retry import ReconnectBackoff
from ..concurrency.tasks import OwnTask, persist, start
from ..errors import ConnectFailed, MesaError, TimedOut
from ..messages.message import Message
from ..messages.receipt import Position
from ..protocol import NOWHERE, Arrived, Hello, RequestReceived
from ..settings import ClientSettings
from ..transports.client_socket import Address
from .acknowledging import PositionStore, Progress
from .callbacks import Answering
from .connection import ClientConnection, Credentials
from .events import CLOSED_BY_US, ConnectionInfo, Disconnection, Ending
from .inbox import Crowd, Inbox
from .login import Login
from .send_queue import Outgoing

log = logging.getLogger("mesa_ws.client")


class Link:
    """The connection of a client, whichever it is at the moment.

    Attributes:
        inbox: what comes from the server, and what happens to the link.
        outgoing: what goes to the server.
        progress: how far the application has come with what was received.
        answering: who answers the server's requests.
        ending: why it is over; None before.
    """

    def __init__(self, address: Address, settings: ClientSettings, store: PositionStore | None) -> None:
        self._address = address
        self._settings = settings
        self._backoff = ReconnectBackoff(settings.reconnect)
        self._connection: ClientConnection | None = None
        self._task: OwnTask | None = None
        self._connecting = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._changed = asyncio.Event()
        self._is_over = asyncio.Event()
        self.progress = Progress(store, self._acknowledge, self._report)
        self.inbox = Inbox(settings.limits.max_queued, self._throttle, self.progress.handled)
        self.answering = Answering(settings.limits.max_requests, self._report)
        self._login = Login(self.progress, is_automatic=settings.reconnect.authenticate)
        self._positions = NOWHERE  # of what was received, up to the connection before
        self.outgoing = Outgoing(settings.queue_size, self._is_final)
        self.ending: Ending | None = None

    @property
    def connection(self) -> ClientConnection | None:
        """The connection there is now."""
        return self._connection

    def check_begun(self) -> None:
        """Refuse what makes no sense before `connect`.

        Raises:
            MesaError: nobody has called it.
        """
        if self._task is None and self.ending is None and not self._connecting.locked():
            raise MesaError(
                "the client is not connected; use `async with Client(url) as client`, "
                "or `await client.connect()`"
            )

    async def connect(self) -> bool:
        """Open the first connection.

        Returns:
            False if that was done before.

        Raises:
            ConnectFailed: it cannot be opened; this may be called again.
            ConnectionClosed: the client has ended.
        """
        async with self._connecting:
            if self._task is not None or self.ending is not None:
                self._check_not_over()
                return False
            if self._positions is NOWHERE:
                self._positions = await self.progress.load()
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
        """Authenticate the connection there is, or else the next one; see `Login.attempt`."""
        return await self._login.attempt(self._current, credentials)

    async def request(self, body: bytes, timeout: float) -> Message:
        """Ask the server by the connection there is, or else the next one; see `Client.request`."""
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                connection = await self.outgoing.next_in_line()
                return await connection.request(body)
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(
                f"request: expected an answer within {timeout:g} s, got none; it may be handled all the same"
            ) from None

    async def aclose(self, code: int = CloseCode.NORMAL) -> None:
        """Close the connection with `code`, and never come back. Cancelling cuts it."""
        if self.ending is None:
            self._end(CLOSED_BY_US._replace(code=code))
        async with self._closing:
            try:
                await self._leave(code)
            except asyncio.CancelledError:
                if self._connection is not None:
                    self._connection.wire.abort()
                raise
            finally:
                self._finish()

    async def wait_over(self) -> Ending:
        """Wait for the end, and tell how it came."""
        await self._is_over.wait()
        assert self.ending is not None  # noqa: S101 - set before the event is
        return self.ending

    # What a connection calls.

    def receive(self, arrived: Arrived) -> None:
        """Something arrived."""
        self.progress.received(arrived)
        self.inbox.receive(arrived)

    def hurry(self) -> None:
        """Acknowledge what was handled, now."""
        self.progress.hurry()

    def asked(self, asked: RequestReceived, write: Callable[[bytes], None]) -> None:
        """The server wants an answer."""
        self.answering.ask(asked, write)

    def _report(self, error: Exception) -> None:
        self.inbox.happened(error)

    # The life of the link.

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
        """See a connection through, from the moment it is there to its end."""
        try:
            await self._login.renew(connection)
        except Exception as error:  # noqa: BLE001 - it may come from the application's function
            self._give_up(connection, error)
        if self._login.is_missing(connection):
            await connection.wait_authenticated()
        self.outgoing.attach(connection)
        await self.outgoing.flush()
        waited: set[asyncio.Future[Any]] = {connection.wire.ended, connection.leave}
        await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        if connection.leave.done() and self._settings.reconnect.enabled:
            await self._move_out(connection)
        await asyncio.wait({connection.wire.ended})

    async def _move_out(self, connection: ClientConnection) -> None:
        """Leave a server that is about to go, once all that came is handled and acknowledged."""
        handled = start(self.inbox.mark().wait())
        waited: set[asyncio.Future[Any]] = {connection.wire.ended, handled}
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            handled.cancel()
        await self.progress.flush()
        connection.wire.close(CloseCode.NORMAL, "the server asked to come back later")

    def _give_up(self, connection: ClientConnection, error: Exception) -> None:
        """Leave a connection that cannot be authenticated; what ended by itself needs no report."""
        if connection.wire.is_open:
            log.warning("cannot authenticate again; trying on another connection", exc_info=error)
            self.inbox.happened(error)
            connection.wire.close(CloseCode.NORMAL, "")

    def _begin(self, connection: ClientConnection, *, is_first: bool) -> None:
        log.info("connected to %s", self._address)
        self._connection = connection
        self.inbox.happened(ConnectionInfo.of(connection.hello, is_first=is_first))
        connection.start()
        connection.throttle(self.inbox.crowd)
        if not self._login.is_missing(connection):
            self.outgoing.attach(connection)
        self._changed.set()

    def _lose(self, connection: ClientConnection, ending: Ending, *, will_reconnect: bool) -> None:
        log.info("the connection to %s ended with %d %r", self._address, ending.code, ending.reason)
        if will_reconnect and ending.code == CloseCode.REFUSED:
            log.warning("the server refused this client, which comes back with new authentication data")
        self._connection = None
        self._positions = connection.positions
        self.outgoing.detach()
        self._login.remember(connection)
        if not self._login.is_missing(connection):
            self._backoff.lasted(asyncio.get_running_loop().time() - connection.usable_since)
        self.inbox.happened(Disconnection(ending.code, ending.reason, will_reconnect))

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
        self.outgoing.end(ending)
        self.inbox.end(ending)
        self._changed.set()

    async def _leave(self, code: int) -> None:
        if self._task is not None:
            self._task.cancel()
            await self._task.finish()
        if self._connection is not None:
            await self.progress.flush()
            ended = await self._connection.aclose(code)
            self._connection = None
            self.inbox.happened(Disconnection(*ended, will_reconnect=False))

    def _finish(self) -> None:
        self.inbox.finish()
        self._is_over.set()

    async def _current(self) -> ClientConnection:
        while self._connection is None or not self._connection.wire.is_open:
            self._check_not_over()
            self._changed.clear()
            await self._changed.wait()
        return self._connection

    def _is_final(self, connection: ClientConnection) -> bool:
        code = connection.ending().code
        is_worth_a_token = code == CloseCode.REFUSED and self._login.may_return(connection)
        return not (self._settings.reconnect.enabled and (may_reconnect(code) or is_worth_a_token))

    def _check_not_over(self) -> None:
        if self.ending is not None:
            raise self.ending.error()

    async def _open(self) -> ClientConnection:
        return await ClientConnection.open(self._address, self._settings, self, self._positions)

    def _acknowledge(self, position: Position) -> None:
        if self._connection is not None:
            self._connection.acknowledge(position)

    def _throttle(self, crowd: Crowd) -> None:
        if self._connection is not None:
            self._connection.throttle(crowd)
