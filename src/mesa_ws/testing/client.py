"""Run a server in memory, connect clients to it, and move the time: `AsyncTestClient` and `TestClient`."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeVar

from ..backend.memory import MemoryBackend
from ..client import Client, PositionStore
from ..client.connection import AuthenticationData
from ..concurrency.clock import move, unix_time
from ..concurrency.tasks import end, start
from ..errors import AuthenticationFailed, ConnectionClosed, MesaError, TimedOut
from ..messages.message import Message
from ..messages.request import DEFAULT_REQUEST_TIMEOUT
from ..portal.worker import Worker
from ..settings import Reconnection
from ..transports.client_socket import ServerAddress
from ..transports.run import Server, Service
from .memory_socket import MemoryAddress, MemoryListener

T = TypeVar("T")

RECEIVE_TIMEOUT = 5.0
"""Seconds that `receive` waits for a message."""

PATIENCE = 5.0
"""Seconds of the system's time after which `settle` returns although something still runs."""

LOOK_AGAIN = 0.001
"""Seconds between two looks at a plain handler that runs in a thread."""

QUIET_ROUNDS = 2
"""Rounds of an event loop of asyncio without work, after which it is idle."""

BLIND_ROUNDS = 100
"""Rounds after which another event loop counts as idle, since it does not show its work."""


class AsyncTestConnection(Client):
    """A `Client` that is connected to a server in memory. `AsyncTestClient.connect` makes it.

    Use it with `async with`, as any `Client`: all that it does is real, but for the socket.
    """

    __test__ = False

    def __init__(
        self,
        client: "AsyncTestClient",
        target: str,
        headers: Mapping[str, str] | None,
        *,
        reconnect: Reconnection | Mapping[str, Any] | bool,
        positions: PositionStore | None,
    ) -> None:
        self._client = client
        super().__init__(target, headers=headers, reconnect=reconnect, positions=positions)

    async def receive(self, timeout: float = RECEIVE_TIMEOUT) -> Message:
        """Wait for the next message.

        Args:
            timeout: seconds to wait.

        Raises:
            TimedOut: none came.
            ConnectionClosed: the connection ended, and the client does not reconnect.
            AuthenticationFailed: the server refused this client.
        """
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await anext(aiter(self))
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(f"receive: expected a message within {timeout:g} s, got none") from None

    async def receive_all(self) -> list[Message]:
        """Return the messages that have arrived, once the server has nothing more to do; maybe none."""
        await self._client.settle()
        found: list[Message] = []
        while True:
            receiving = start(self.receive())
            await self._client.settle()
            if not receiving.done():
                end(receiving)
                await asyncio.wait({receiving})
                return found
            try:
                found.append(receiving.result())
            except (ConnectionClosed, AuthenticationFailed, StopAsyncIteration):
                return found

    def cut(self) -> None:
        """Cut the connection without a close frame, as a network does that fails; the client comes back."""
        connection = self._reconnecting.connection
        if connection is not None:
            connection.websocket.abort()

    def _address(self, url: str, headers: Mapping[str, str] | None, ssl: SSLContext | None) -> ServerAddress:
        return MemoryAddress.at(self._client.listener, url, headers)


class AsyncTestClient:
    """Runs a server in memory in the running event loop, while it is entered, and connects clients to it.

    The server needs a backend in memory: none, or a `MemoryHub`, which dispatchers and portals of
    the test share. Time goes on as ever, and `advance` moves it forward, for everything in this
    event loop: heartbeats, time limits, logins that expire, stored messages, pauses before a client
    comes back. Limits of rates stay with the system's time.

    Args:
        server: the server.
        services: entered after the server, and left before it, such as a `Portal` of the same hub.
        path: as in `serve`.

    Raises:
        MesaError: the server does not keep its data in memory.
    """

    __test__ = False

    def __init__(self, server: Server, *services: Service, path: str | None = None) -> None:
        if not isinstance(server.backend, MemoryBackend):
            got = type(server.backend).__name__
            raise MesaError(
                f"TestClient: expected a server with a MemoryHub, got one with {got}; make the server of a "
                "test with Server(MemoryHub(), ...)"
            )
        self._server = server
        self._services = services
        self.listener = MemoryListener(server, path)
        self._connections: list[AsyncTestConnection] = []
        self._running = AsyncExitStack()

    @property
    def now(self) -> float:
        """The Unix time in seconds, as far as it was moved later."""
        return unix_time()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            starting.push_async_callback(self._server.stop)
            await self._server.start()
            starting.push_async_callback(self._server.loop_lag.stop)
            await self._server.loop_lag.stop()  # time that is moved is no lag
            for service in self._services:
                await starting.enter_async_context(service)
            starting.push_async_callback(self._disconnect)
            self._running = starting.pop_all()
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.__aexit__(type, error, trace)
        await self.listener.wait_closed()

    def connect(
        self,
        target: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        reconnect: Reconnection | Mapping[str, Any] | bool = True,
        positions: PositionStore | None = None,
    ) -> AsyncTestConnection:
        """Return a client of the server, which connects when it is entered with `async with`.

        Args:
            target: path and query of the handshake.
            headers: its header fields, such as `Cookie`.
            reconnect: as in `Client`.
            positions: as in `Client`.
        """
        connection = AsyncTestConnection(self, target, headers, reconnect=reconnect, positions=positions)
        self._connections.append(connection)
        return connection

    async def settle(self) -> None:
        """Wait until server, services and clients have nothing to do but to wait for time to pass.

        Plain handlers in threads are waited for, but none of these for longer than 5 seconds.
        """
        loop, quiet, until = asyncio.get_running_loop(), 0, time.monotonic() + PATIENCE
        rounds = QUIET_ROUNDS if hasattr(loop, "_ready") else BLIND_ROUNDS
        while quiet < rounds and time.monotonic() < until:
            is_busy = self._is_busy()
            await asyncio.sleep(LOOK_AGAIN if is_busy else 0)
            quiet = 0 if is_busy or getattr(loop, "_ready", False) else quiet + 1

    async def advance(self, seconds: float) -> None:
        """Move the time forward, from one thing that is due to the next, as if it had passed.

        Args:
            seconds: how far.

        Raises:
            MesaError: the time of this event loop cannot be moved; asyncio's own can.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        await self.settle()
        while (due := _next_due(loop)) is not None and due < until:
            _move(loop, due)
            await self.settle()
        _move(loop, until)
        await self.settle()

    def _is_busy(self) -> bool:
        portals = [each._caller for each in self._services if isinstance(each, Worker)]
        return any(caller.is_busy for caller in (self._server.handlers.caller, *portals))

    async def _disconnect(self) -> None:
        while self._connections:
            await self._connections.pop().aclose()


def _move(loop: asyncio.AbstractEventLoop, to: float) -> None:
    if not isinstance(loop, asyncio.BaseEventLoop):
        raise MesaError(
            f"advance: expected an event loop of asyncio, got {type(loop).__module__}.{type(loop).__name__}, "
            "whose time cannot be moved; run this test without it"
        )
    move(loop, max(0.0, to - loop.time()))


def _next_due(loop: asyncio.AbstractEventLoop) -> float | None:
    timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled", [])
    return min((timer.when() for timer in timers if not timer.cancelled()), default=None)


class TestConnection:
    """A client that is connected to a server in memory, for tests without asyncio.

    `TestClient.connect` makes it. Use it with `with`.
    """

    __test__ = False

    def __init__(self, client: "TestClient", connect: Callable[[], AsyncTestConnection]) -> None:
        self._client = client
        self._connect = connect
        self._connection: AsyncTestConnection

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ConnectFailed: the server refuses the connection.
        """
        self._client.call(self._open)
        return self

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection.is_connected

    @property
    def is_authenticated(self) -> bool:
        """Whether the current connection is authenticated."""
        return self._connection.is_authenticated

    @property
    def user(self) -> Any:
        """The user object that the server sent on this connection; None before."""
        return self._connection.user

    def authenticate(self, data: AuthenticationData, should_sync: bool = True, timeout: float = 10.0) -> Any:
        """Authenticate, and return the user object that the server sends; see `Client.authenticate`."""
        return self._client.call(lambda: self._connection.authenticate(data, should_sync, timeout))

    def send(self, message: Message) -> None:
        """Send a message to the server; see `Client.send`."""
        self._client.call(lambda: self._connection.send(message))

    def request(self, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Send a request to the server, and return the answer; see `Client.request`."""
        return self._client.call(lambda: self._connection.request(message, timeout))

    def receive(self, timeout: float = RECEIVE_TIMEOUT) -> Message:
        """Wait for the next message; see `AsyncTestConnection.receive`."""
        return self._client.call(lambda: self._connection.receive(timeout))

    def receive_all(self) -> list[Message]:
        """Return the messages that have arrived; see `AsyncTestConnection.receive_all`."""
        return self._client.call(self._connection.receive_all)

    def wait_closed(self) -> None:
        """Wait until the client has ended; see `Client.wait_closed`."""
        self._client.call(self._connection.wait_closed)

    def close(self, code: int = 1000) -> None:
        """Close the connection; see `Client.aclose`."""
        self._client.call(lambda: self._connection.aclose(code))

    def cut(self) -> None:
        """Cut the connection; see `AsyncTestConnection.cut`."""
        self._client.call(self._cut)

    async def _open(self) -> None:
        self._connection = self._connect()
        await self._connection.connect()

    async def _cut(self) -> None:
        self._connection.cut()
        await self._client.client.settle()


class TestClient:
    """Runs a server in memory in an event loop of its own, while it is entered, for tests without asyncio.

    The event loop runs in a thread; see `AsyncTestClient` for the rest.

    Args:
        server: the server.
        services: as in `AsyncTestClient`.
        path: as in `serve`.

    Raises:
        MesaError: the server does not keep its data in memory.
    """

    __test__ = False

    def __init__(self, server: Server, *services: Service, path: str | None = None) -> None:
        self.client = AsyncTestClient(server, *services, path=path)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._thread: threading.Thread
        self._started: Future[None] = Future()
        self._ended: Future[None] = Future()

    def __enter__(self) -> Self:
        self._started, self._ended = Future(), Future()
        self._thread = threading.Thread(target=self._run, name="mesa-test-client", daemon=True)
        self._thread.start()
        self._started.result()
        return self

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._ended.result()

    @property
    def now(self) -> float:
        """The Unix time in seconds, as far as it was moved later."""
        return self.call(self._now)

    def connect(
        self,
        target: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        reconnect: Reconnection | Mapping[str, Any] | bool = True,
        positions: PositionStore | None = None,
    ) -> TestConnection:
        """Return a client of the server, which connects when it is entered; see `AsyncTestClient.connect`."""
        return TestConnection(
            self,
            lambda: self.client.connect(target, headers=headers, reconnect=reconnect, positions=positions),
        )

    def settle(self) -> None:
        """Wait until nothing is left to do; see `AsyncTestClient.settle`."""
        self.call(self.client.settle)

    def advance(self, seconds: float) -> None:
        """Move the time forward; see `AsyncTestClient.advance`."""
        self.call(lambda: self.client.advance(seconds))

    def call(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the event loop of the server, and return its result.

        Args:
            work: makes the coroutine, such as `lambda: server.send(message, ["anna"])`.

        Raises:
            MesaError: the client is not entered.
        """
        if self._loop is None:
            raise MesaError("TestClient: expected to be entered, got a call before; use it with `with`")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result()

    async def _now(self) -> float:
        return self.client.now

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._stay())
        except BaseException as error:  # noqa: BLE001 - raised where the client is entered or left
            (self._ended if self._started.done() else self._started).set_exception(error)
        else:
            self._ended.set_result(None)

    async def _stay(self) -> None:
        self._stop = asyncio.Event()
        async with self.client:
            self._loop = asyncio.get_running_loop()
            self._started.set_result(None)
            await self._stop.wait()
