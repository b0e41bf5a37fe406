"""The client that applications use."""

import asyncio
from collections.abc import Callable, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, overload

from ..close import check_own_code
from ..concurrency.tasks import OwnTask, unwatch, watch
from ..errors import InvalidMessage, InvalidSettings
from ..handlers.caller import ForMessages, for_messages
from ..messages.frames import encode_message
from ..messages.message import Message
from ..messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout
from ..protocol.client import Hello
from ..settings import ClientLimits, ClientSettings, Keepalive, Reconnection
from ..transports.client_socket import ServerAddress
from .acknowledging import PositionStore
from .callbacks import AnyCallback, Callbacks
from .connection import AuthenticationData, Credentials
from .reconnecting import ReconnectingConnection


class Client:
    """A client of a Mesa server, for asyncio.

    Stays connected: a lost connection is opened again, and authenticated as before. Messages that are
    sent in between wait. Received messages come out of `async for`, or go to callbacks.

        async with Client("ws://localhost:4000") as client:
            await client.authenticate({"id": "0"})
            await client.send(Message(0, {"text": "hello"}, "CHAT"))
            async for message in client:
                print(message)

    Callbacks are `async def` or `def`; both run in the event loop, so a `def` must not block. The
    client calls them one after another, in the order of events; they may call every method of the
    client. If one raises, the error is logged and reported to `on_error`. A client is used once, in one
    event loop; its methods are not safe to call from other threads.

    Args:
        url: `ws://host:port/path`, or `wss://` for TLS.
        reconnect: whether and how to reconnect: True, False, a `Reconnection` or its fields.
        queue_size: messages that may wait while the client is away.
        headers: to send with the handshake, such as `{"Authorization": "Bearer ..."}`.
        ssl: context for `wss://`; the system's trust by default.
        keepalive: how to find out that the server is gone.
        limits: memory of a connection, and time limits.
        positions: saves which messages were handled, over restarts of the program, such as
            `FilePositions("positions")`; each client needs one of its own.

    Raises:
        InvalidSettings: an argument cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        reconnect: Reconnection | Mapping[str, Any] | bool = True,
        queue_size: int = 1000,
        headers: Mapping[str, str] | None = None,
        ssl: SSLContext | None = None,
        keepalive: Keepalive | Mapping[str, Any] | bool = True,
        limits: ClientLimits | Mapping[str, Any] = ClientLimits(),  # noqa: B008 - it is frozen
        positions: PositionStore | None = None,
    ) -> None:
        settings = ClientSettings(
            queue_size=queue_size,
            reconnect=Reconnection.of(reconnect, "reconnect"),
            keepalive=Keepalive.of(keepalive, "keepalive"),
            limits=ClientLimits.of(limits, "limits"),
        )
        self._reconnecting = ReconnectingConnection(self._address(url, headers, ssl), settings, positions)
        self._callbacks = Callbacks()
        self._calling: OwnTask | None = None

    def _address(self, url: str, headers: Mapping[str, str] | None, ssl: SSLContext | None) -> ServerAddress:
        return ServerAddress.of(url, headers, ssl)

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def is_connected(self) -> bool:
        """Whether the client has a connection now."""
        connection = self._reconnecting.connection
        return connection is not None and connection.websocket.is_open

    @property
    def is_authenticated(self) -> bool:
        """Whether the current connection is authenticated."""
        connection = self._reconnecting.connection
        return connection is not None and connection.is_authenticated

    @property
    def user(self) -> Any:
        """The user object that the server sent on this connection; None before."""
        connection = self._reconnecting.connection
        return connection.user if connection is not None else None

    @property
    def hello(self) -> Hello | None:
        """The server's description of itself on the current connection; None without a connection."""
        connection = self._reconnecting.connection
        return connection.hello if connection is not None else None

    async def connect(self) -> None:
        """Open the first connection. Does nothing if it was opened before.

        Raises:
            ConnectFailed: the server cannot be reached, or is not a Mesa server. The client does not
                try again by itself; call this again.
            ConnectionClosed: the client was closed.
        """
        if await self._reconnecting.connect():
            self._calling = OwnTask(self._run_callbacks)

    async def authenticate(
        self, data: AuthenticationData, should_sync: bool = True, timeout: float = 10.0
    ) -> Any:
        """Authenticate, and wait for the server's answer.

        While the client is away, this waits for the next connection. The client repeats by itself, on
        every connection that follows, what the server has accepted. If the server then refuses, the
        client ends, unless `data` is a function: the client calls it for another attempt, three times at
        most. Cancelling gives up the wait; the server may accept all the same.

        Args:
            data: the data for the server's authenticator; or a function, `def` or `async def`, that
                returns the data and is called for every connection, for tokens that expire.
            should_sync: whether the server delivers messages stored for this user.
            timeout: seconds to wait.

        Returns:
            The user object that the server sent, empty if it sends none.

        Raises:
            AuthenticationFailed: the server refused. With a mapping the client has ended; with a function it
                reconnects, up to three times in a row, and this may be called again.
            ConnectionClosed: the connection ended before the answer; authenticate again.
            TimedOut: no answer in time.
            InvalidMessage: `data` is neither a mapping nor a function, or JSON cannot hold it.
            InvalidSettings: `timeout` is not a number of seconds.
        """
        self._reconnecting.check_begun()
        _check_timeout(timeout)
        return await self._reconnecting.authenticate(Credentials(data, should_sync, timeout))

    async def send(self, message: Message) -> None:
        """Send a message to the server.

        Waits while the connection's buffer is full. While the client is away, the message is kept, and
        sent on the next connection once that is authenticated as before. Messages are sent in the order
        of calls, each at most once: a message that was on its way when the connection was cut is not
        repeated. A call that is cancelled has sent nothing.

        Raises:
            QueueFull: the client is away, and `queue_size` messages wait already.
            ConnectionClosed: the client has ended.
            AuthenticationFailed: the client has ended because the server refused it.
            InvalidMessage: the message cannot go on the wire.
        """
        if not isinstance(message, Message):
            raise InvalidMessage(f"message: expected a Message, got {type(message).__name__}")
        self._reconnecting.check_begun()
        await self._reconnecting.offline_queue.send(encode_message(message))

    async def request(self, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Send a request to the server, and wait for the answer of one of its message handlers.

        While the client is away, this waits for the next connection; the request goes out behind the
        messages sent before. A request is delivered at most once, and never repeated by itself. The
        answer overtakes the messages that wait, so a callback may wait for it. Cancelling gives up
        the wait; the server may handle the request all the same.

        Args:
            message: the request.
            timeout: seconds to wait.

        Returns:
            The result of the handler.

        Raises:
            TimedOut: no connection, or no answer, in time.
            RequestFailed: the server answered with an error: `Unanswered` if it has no handler for
                this request, else the error that its handler raised.
            ConnectionClosed: the connection ended before the answer, or the client has ended.
            AuthenticationFailed: the client has ended because the server refused it.
            Unsupported: the server speaks wire 1, which has no requests; nothing was sent.
            TooManyRequests: as many requests wait for answers as may, here or at the server.
            InvalidMessage: the message cannot go on the wire.
            InvalidSettings: `timeout` is not a number of seconds.
        """
        self._reconnecting.check_begun()
        return await self._reconnecting.request(encode_message(message), check_timeout(timeout))

    async def aclose(self, code: int = 1000) -> None:
        """Close the connection, and do not reconnect.

        Messages that were received and not handled are dropped; iterations end. A callback that
        runs may finish, and the `on_disconnected` callbacks are called. May be called from a callback,
        and more than once. Cancelling cuts the connection and the callback.

        Args:
            code: the close code: 1000, or a code of your own from 3000 to 4999. The first call decides.

        Raises:
            InvalidInput: the code is not one of these.
        """
        own_code = check_own_code(code)
        try:
            await self._reconnecting.aclose(own_code)
            if self._calling is not None:
                await self._calling.finish()
            await self._reconnecting.request_handlers.finish()
            await self._reconnecting.acknowledging.flush()
        except asyncio.CancelledError:
            if self._calling is not None:
                self._calling.cancel()
            self._reconnecting.request_handlers.cancel()
            raise

    async def wait_closed(self) -> None:
        """Wait until the client has ended, which keeps a program with callbacks running.

        Raises:
            ConnectionClosed: the connection ended, and the client does not reconnect.
            AuthenticationFailed: the server refused this client.
        """
        self._reconnecting.check_begun()
        ending = await self._reconnecting.wait_over()
        if not ending.is_wanted:
            raise ending.error()

    def __aiter__(self) -> Self:
        self._reconnecting.event_queue.feed_iteration()
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message. Cancelling loses none.

        Raises:
            StopAsyncIteration: the client was closed.
            ConnectionClosed: the connection ended, and the client does not reconnect.
            AuthenticationFailed: the server refused this client.
            Unsupported: the client has `on_message` callbacks, which get the messages.
        """
        self._reconnecting.check_begun()
        return await self._reconnecting.event_queue.next_message()

    def on_connected(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(info)`, called for every new connection with a `ConnectionInfo`."""
        return self._callbacks.add("on_connected", callback)

    @overload
    def on_message(self, callback: AnyCallback, /) -> AnyCallback: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyCallback], AnyCallback]: ...

    def on_message(self, callback_or_type: Any, /) -> Any:
        """Register `callback(message)`, for all messages or for those of one type.

        Use it as `@client.on_message` or as `@client.on_message("PING")`. The messages of a client
        with such a callback go to callbacks only; `async for` raises an error.

        Raises:
            Unsupported: the application iterates over the client's messages.
            InvalidSettings: the argument is neither a function nor a type.
        """
        return for_messages("on_message", callback_or_type, self._add_for_messages, "message")

    @overload
    def on_request(self, handler: AnyCallback, /) -> AnyCallback: ...

    @overload
    def on_request(self, type: str, /) -> Callable[[AnyCallback], AnyCallback]: ...

    def on_request(self, handler_or_type: Any, /) -> Any:
        """Register `handler(message)`, which answers the server's requests, all or those of one type.

        Use it as `@client.on_request` or as `@client.on_request("PING")`. Its result is the answer: a
        `Message`, or data for one of the request's type. The first handler that returns a value other
        than None, or raises, decides: the requester gets a `RequestError` with its code and text, and
        of any other error only that the handler failed. Requests are handled at the same time as
        messages and other requests, so a handler may wait for another one.

        Raises:
            InvalidSettings: the argument is neither a function nor a type.
        """
        handlers = self._reconnecting.request_handlers.handlers
        return for_messages("on_request", handler_or_type, handlers.append, "message")

    def on_disconnected(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(code, reason, will_reconnect)`, called at the end of every connection."""
        return self._callbacks.add("on_disconnected", callback)

    def on_lost(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(number)`, called with the number of messages that this client lost.

        The server dropped them while the client was away, because they were too old or too many. The
        call comes in the order of messages: the next message is the one that follows them. Without
        such a callback the client logs a warning.
        """
        return self._callbacks.add("on_lost", callback)

    def on_forked(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback()`, called when messages may be missing because the server's Redis failed.

        Redis restarted, or a replica took over, perhaps without the newest messages that it had
        confirmed: messages may be missing that this client never had, and it is not known which. Load
        the state that your messages describe again. The call comes once for each such failure, in the
        order of messages, also if the client was away then. Without such a callback the client logs a
        warning.
        """
        return self._callbacks.add("on_forked", callback)

    def on_reset(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback()`, called when it is not known which messages this client missed.

        The server does not know the client's position, because the client was away for too long, the
        server's store was lost, or the client has authenticated as another user. Messages may be
        missing, and some that were handled may come again; load the state that your messages describe
        again. The call comes in the order of messages. Without such a callback the client logs a warning.
        """
        return self._callbacks.add("on_reset", callback)

    def on_error(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(error)`, called with errors of other callbacks, or of the store of positions."""
        return self._callbacks.add("on_error", callback)

    async def _run_callbacks(self) -> None:
        watch()
        try:
            await self._callbacks.run(self._reconnecting.event_queue)
            await self._reconnecting.acknowledging.flush()
        finally:
            await unwatch()

    def _add_for_messages(self, callback: ForMessages) -> None:
        self._reconnecting.event_queue.feed_callbacks()
        self._callbacks.for_messages.append(callback)


def _check_timeout(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise InvalidSettings("timeout", "a number of seconds, more than 0", timeout)
