"""The client that applications use."""

import asyncio
from collections.abc import Callable, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from ..close import check_own_code
from ..concurrency.tasks import OwnTask, unwatch, watch
from ..errors import InvalidMessage, InvalidSettings
from ..handlers import Handler
from ..handlers.caller import checked
from ..messages.frames import encode_message
from ..messages.message import Message
from ..messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout
from ..protocol import Hello
from ..settings import ClientLimits, ClientSettings, Keepalive, Reconnection
from ..text import plain
from ..transports.client_socket import Address
from .acknowledging import PositionStore
from .callbacks import Callbacks
from .connection import AuthenticationData, Credentials
from .reconnecting import Link

AnyCallback = TypeVar("AnyCallback", bound=Handler)


class Client:
    """A client of a Mesa server, for asyncio.

    Stays connected: a lost connection is opened again, and authenticated as before. What is sent
    in between waits its turn. Messages come out of `async for`, or go to callbacks.

        async with Client("ws://localhost:4000") as client:
            await client.authenticate({"id": "0"})
            await client.send(Message(0, {"text": "hello"}, "CHAT"))
            async for message in client:
                print(message)

    Callbacks are `async def` or `def`; both run in the event loop, so a `def` must not block. They
    are told one after another, in the order of events, and may call every method of the client.
    One that raises is logged and reported to `on_error`. A client is used once, in one event
    loop; its methods are not safe to call from other threads.

    Args:
        url: `ws://host:port/path`, or `wss://` for TLS.
        reconnect: whether and how to come back: True, False, a `Reconnection` or its fields.
        queue_size: messages that may wait while the client is away.
        headers: to send with the handshake, such as `{"Authorization": "Bearer ..."}`.
        ssl: context for `wss://`; the system's trust by default.
        keepalive: how to find out that the server is gone.
        limits: what a connection may cost, and how long to wait.
        positions: keeps over restarts of the program which messages were handled, such as
            `FilePositions("positions")`; each client needs one of its own.

    Raises:
        InvalidSettings: one of them cannot be used.
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
        self._link = Link(Address.of(url, headers, ssl), settings, positions)
        self._callbacks = Callbacks()
        self._telling: OwnTask | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection now."""
        connection = self._link.connection
        return connection is not None and connection.wire.is_open

    @property
    def is_authenticated(self) -> bool:
        """Whether the connection there is now belongs to a user."""
        connection = self._link.connection
        return connection is not None and connection.is_authenticated

    @property
    def user(self) -> Any:
        """The user object that the server sent on this connection; None before."""
        connection = self._link.connection
        return connection.user if connection is not None else None

    @property
    def hello(self) -> Hello | None:
        """What the server said about itself on this connection; None without one."""
        connection = self._link.connection
        return connection.hello if connection is not None else None

    async def connect(self) -> None:
        """Open the first connection. Does nothing if that was done before.

        Raises:
            ConnectFailed: the server cannot be reached, or is not a Mesa server. It is not tried
                again by itself; call this again.
            ConnectionClosed: the client was closed.
        """
        if await self._link.connect():
            self._telling = OwnTask(self._tell_all)

    async def authenticate(
        self, data: AuthenticationData, should_sync: bool = True, timeout: float = 10.0
    ) -> Any:
        """Tell the server who this is, and wait for its answer.

        While the client is away, this waits for the next connection. What the server accepted is
        said again, by itself, on every connection that follows. A server that then refuses ends
        the client, unless `data` is a function: that is called for another attempt three times at
        most. Cancelling gives up the wait; the server may accept all the same.

        Args:
            data: what the server's authenticator wants; or a function, `def` or `async def`, that
                returns it and is called for every connection, for tokens that expire.
            should_sync: whether messages stored for this user shall be delivered.
            timeout: seconds to wait.

        Returns:
            The user object that the server sent, empty if it sends none.

        Raises:
            AuthenticationFailed: the server refused. With a mapping the client has ended; with a function it
                comes back, up to three times in a row, and this may be called again.
            ConnectionClosed: the connection ended before the answer; authenticate again.
            TimedOut: no answer in time.
            InvalidMessage: `data` is neither a mapping nor a function, or JSON cannot hold it.
            InvalidSettings: `timeout` is not a number of seconds.
        """
        self._link.check_begun()
        _check_timeout(timeout)
        return await self._link.authenticate(Credentials(data, should_sync, timeout))

    async def send(self, message: Message) -> None:
        """Send a message to the server.

        Waits while the connection takes no more. While the client is away, the message is kept,
        and sent on the next connection once that is authenticated as before. Messages are sent
        in the order of calls, each at most once: one that was on its way when the connection was
        cut is not repeated. A call that is cancelled has sent nothing.

        Raises:
            QueueFull: the client is away, and `queue_size` messages wait already.
            ConnectionClosed: the client has ended.
            AuthenticationFailed: the client has ended because the server refused it.
            InvalidMessage: the message cannot go on the wire.
        """
        if not isinstance(message, Message):
            raise InvalidMessage(f"message: expected a Message, got {type(message).__name__}")
        self._link.check_begun()
        await self._link.outgoing.send(encode_message(message))

    async def request(self, message: Message, timeout: float = DEFAULT_REQUEST_TIMEOUT) -> Message:
        """Ask the server, and wait for the answer of one of its message handlers.

        While the client is away, this waits for the next connection, and goes out behind what was
        sent before. A request is delivered at most once, and never sent again by itself. The answer
        passes by the messages that wait, so a callback may wait for it. Cancelling gives up the
        wait; the server may handle the request all the same.

        Args:
            message: what is asked.
            timeout: seconds to wait.

        Returns:
            What the handler returned.

        Raises:
            TimedOut: no connection, or no answer, in time.
            RequestFailed: the server answered with an error: `Unanswered` if it has no handler for
                this, else what its handler raised.
            ConnectionClosed: the connection ended before the answer, or the client has ended.
            AuthenticationFailed: it ended because the server refused this client.
            Unsupported: the server speaks wire 1, which knows no requests; nothing was sent.
            TooManyRequests: as many wait for answers as may, here or there.
            InvalidMessage: the message cannot go on the wire.
            InvalidSettings: `timeout` is not a number of seconds.
        """
        self._link.check_begun()
        return await self._link.request(encode_message(message), check_timeout(timeout))

    async def aclose(self, code: int = 1000) -> None:
        """Say goodbye to the server, and do not come back.

        Messages that were received and not handled are dropped; iterations end. A callback that
        runs may finish, and `on_disconnected` is told. May be called from a callback, and more
        than once. Cancelling cuts the connection and the callback.

        Args:
            code: what the server is told: 1000, or one of your own from 3000 to 4999. The first
                call decides.

        Raises:
            InvalidInput: the code is another one.
        """
        own_code = check_own_code(code)
        try:
            await self._link.aclose(own_code)
            if self._telling is not None:
                await self._telling.finish()
            await self._link.answering.finish()
            await self._link.progress.flush()
        except asyncio.CancelledError:
            if self._telling is not None:
                self._telling.cancel()
            self._link.answering.cancel()
            raise

    async def wait_closed(self) -> None:
        """Wait until the client has ended, which keeps a program with callbacks running.

        Raises:
            ConnectionClosed: the connection ended, and the client does not come back.
            AuthenticationFailed: the server refused this client.
        """
        self._link.check_begun()
        ending = await self._link.wait_over()
        if not ending.is_wanted:
            raise ending.error()

    def __aiter__(self) -> Self:
        self._link.inbox.feed_iteration()
        return self

    async def __anext__(self) -> Message:
        """Wait for the next message. Cancelling loses none.

        Raises:
            StopAsyncIteration: the client was closed.
            ConnectionClosed: the connection ended, and the client does not come back.
            AuthenticationFailed: the server refused this client.
            Unsupported: there are `on_message` callbacks, which get the messages.
        """
        self._link.check_begun()
        return await self._link.inbox.next_message()

    def on_connected(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(info)`, told of every new connection with a `ConnectionInfo`."""
        self._callbacks.connected.append(checked("on_connected", callback, "info"))
        return callback

    @overload
    def on_message(self, callback: AnyCallback, /) -> AnyCallback: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyCallback], AnyCallback]: ...

    def on_message(self, callback_or_type: Any, /) -> Any:
        """Register `callback(message)`, for all messages or for those of one type.

        Used as `@client.on_message` or as `@client.on_message("PING")`. A client with such a
        callback hands its messages to callbacks only; it cannot be iterated over.

        Raises:
            Unsupported: the client is being iterated over.
            InvalidSettings: what came is neither a function nor a type.
        """
        if isinstance(callback_or_type, str):
            return lambda callback: self._add(callback_or_type, callback)
        if not callable(callback_or_type):
            raise InvalidSettings("on_message", "a function or a message type", callback_or_type)
        return self._add(None, callback_or_type)

    @overload
    def on_request(self, handler: AnyCallback, /) -> AnyCallback: ...

    @overload
    def on_request(self, type: str, /) -> Callable[[AnyCallback], AnyCallback]: ...

    def on_request(self, handler_or_type: Any, /) -> Any:
        """Register `handler(message)`, which answers the server's requests, all or those of one type.

        Used as `@client.on_request` or as `@client.on_request("PING")`. What it returns is the
        answer: a `Message`, or data for one of the request's type. The first handler that returns
        something other than None decides, and so does one that raises: `RequestError` is told to
        the asker, of anything else only that it failed. Requests are handled at the same time as
        messages and as each other, so a handler may wait for what another one does.

        Raises:
            InvalidSettings: what came is neither a function nor a type.
        """
        if isinstance(handler_or_type, str):
            return lambda handler: self._add_answering(handler_or_type, handler)
        if not callable(handler_or_type):
            raise InvalidSettings("on_request", "a function or a message type", handler_or_type)
        return self._add_answering(None, handler_or_type)

    def on_disconnected(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(code, reason, will_reconnect)`, told of the end of every connection."""
        self._callbacks.disconnected.append(
            checked("on_disconnected", callback, "code", "reason", "will_reconnect")
        )
        return callback

    def on_lost(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(number)`, told how many messages this client missed for good.

        They were dropped while it was away, because they were too old or too many. It is told in
        the order of messages: what comes next is what follows them. Without such a callback it is
        logged.
        """
        self._callbacks.lost.append(checked("on_lost", callback, "number"))
        return callback

    def on_forked(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback()`, told when messages may be missing because the server's Redis failed.

        Redis restarted, or a replica took over, perhaps without the newest messages that it had
        confirmed: some may be missing that this client never had, and it is not known which. Read
        again what they are about. It is told once each time, in the order of messages, also to a
        client that was away then. Without such a callback it is logged.
        """
        self._callbacks.forked.append(checked("on_forked", callback))
        return callback

    def on_reset(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback()`, told when it is not known what this client missed.

        The server does not know the client's position, because it was away for too long, the store
        behind the server was lost, or the client is somebody else now. Messages may be missing, and
        some that were handled may come again; read anew what they are about. It is told in the order
        of messages. Without such a callback it is logged.
        """
        self._callbacks.reset.append(checked("on_reset", callback))
        return callback

    def on_error(self, callback: AnyCallback) -> AnyCallback:
        """Register `callback(error)`, told what other callbacks, or the store of positions, raised."""
        self._callbacks.error.append(checked("on_error", callback, "error"))
        return callback

    async def _tell_all(self) -> None:
        watch()
        try:
            await self._callbacks.tell_all(self._link.inbox)
            await self._link.progress.flush()
        finally:
            await unwatch()

    def _add_answering(self, type: str | None, handler: AnyCallback) -> AnyCallback:
        self._link.answering.add(plain(type), checked("on_request", handler, "message"))
        return handler

    def _add(self, type: str | None, callback: AnyCallback) -> AnyCallback:
        checked("on_message", callback, "message")
        self._link.inbox.feed_callbacks()
        self._callbacks.message.append((plain(type), callback))
        return callback


def _check_timeout(timeout: object) -> None:
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise InvalidSettings("timeout", "a number of seconds, more than 0", timeout)
