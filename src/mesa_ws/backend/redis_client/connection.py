"""Typed access to redis-py's connections, private parts included."""

import asyncio
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import hiredis
import redis
from redis.connection import DefaultParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, RedisError, ResponseError

from ...concurrency.event_loops import abandon_transport
from .command import Command
from .failures import FOREIGN
from .master import Master

MAX_IDLE = 30.0
"""Seconds after which an idle connection is replaced; firewalls forget connections after minutes."""

DRIVER: Mapping[str, Any] = {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}
"""Connection option by which redis-py names itself to Redis: without it, some versions of redis-py read their
own version from disk for each connection."""


TURN = 0.004
"""Seconds for which messages are handled before others get their turn in the event loop."""

BLOCK = 16
"""Messages that are handled between two looks at the clock."""

LARGE_READ = 64 * 1024
"""Bytes of a read after which others get their turn, too: uvloop may read 32 times in one turn."""

Handlers = Mapping[bytes, Callable[[bytes], None]]
"""What to call with the messages of each channel."""

READ_SIZE = 16 * 1024
"""Bytes that are read at once."""

_pack: Any = hiredis.pack_command  # its annotation is wrong


class BlockingConnection(Protocol):
    """`redis.Connection` and its variants."""

    mesa_master: Master
    """The master that it leads to."""

    def connect(self) -> None: ...  # noqa: D102
    def disconnect(self) -> None: ...  # noqa: D102
    def can_read(self, timeout: float = 0) -> bool: ...  # noqa: D102
    def pack_commands(self, commands: Iterable[Command], /) -> list[bytes]: ...  # noqa: D102
    def send_packed_command(self, command: Iterable[bytes], /) -> None: ...  # noqa: D102
    def read_response(self) -> Any: ...  # noqa: D102


@contextmanager
def disconnect_on_error(connection: BlockingConnection) -> Iterator[None]:
    """Disconnect if the block raises."""
    try:
        yield
    except BaseException:
        connection.disconnect()
        raise


def read_reply(connection: BlockingConnection, deadline: float) -> Any:
    """Read one reply; an error reply is returned, not raised."""
    set_limit(connection, deadline)
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


class PooledConnection:
    """A connection that redis-py has opened, and that is written and read here: its own steps for that cost
    more than all else.

    Args:
        opened: the connection; redis-py has connected, with TLS and login, and closes it.

    Attributes:
        master: the master that it leads to.
        is_new: whether no call has used it yet.
        used_at: when a call has used it, by the monotonic clock.
    """

    def __init__(self, opened: BlockingConnection) -> None:
        private: Any = opened
        self.master, self.is_new, self.used_at = opened.mesa_master, True, 0.0
        self._opened, self._socket, self._parser = opened, private._sock, _new_parser()
        self._limit, self._poll = 0.0, None
        if hasattr(select, "poll"):  # eventlet takes it away
            self._poll = select.poll()
            self._poll.register(self._socket, select.POLLIN)

    def is_usable(self, max_idle: float) -> bool:
        """Whether it leads to the master, was used a short time ago, and has not been closed by Redis.

        The end is all that one can read on an idle connection.
        """
        if self.master.is_left or time.monotonic() - self.used_at >= max_idle:
            return False
        return not (self._poll.poll(0) if self._poll is not None else is_ended(self._opened))

    def write(self, data: bytes, deadline: float) -> None:
        """Write before `deadline`; raises RedisError or OSError."""
        self._set_limit(deadline)
        self._socket.sendall(data)

    def can_read(self, seconds: float) -> bool:
        """Wait until something has arrived, for at most so many seconds; return whether it has."""
        return self._opened.can_read(seconds)

    def read(self, count: int, deadline: float) -> list[Any]:
        """Return the next replies, including errors of Redis.

        Raises:
            RedisError, OSError: they were not there before `deadline`, or Redis has ended the connection.
        """
        replies: list[Any] = []
        while len(replies) < count:
            reply = self._parser.gets()
            if reply is False:  # there is no whole reply yet
                self._set_limit(deadline)
                data = self._socket.recv(READ_SIZE)
                if not data:
                    raise RedisConnectionError("Connection closed by server.")
                self._parser.feed(data)
            elif isinstance(reply, RedisConnectionError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def disconnect(self) -> None:
        """Disconnect."""
        self._opened.disconnect()

    def _set_limit(self, deadline: float) -> None:
        """Limit the next write or read to `deadline`, or to a hundredth of the time more: that is quicker."""
        left = remaining(deadline)
        if not 0.99 < self._limit / left < 1.01:
            self._socket.settimeout(left)
            self._limit = left


class AsyncConnection(asyncio.Protocol):
    """A connection that redis-py has opened, and whose replies are parsed as they arrive.

    redis-py connects, with TLS and login. Its own reading awaits each reply, which costs more than all else.

    Attributes:
        master: the master that it leads to.
    """

    def __init__(self, opened: Any) -> None:
        self.master: Master = opened.mesa_master
        reader, self._writer = opened._reader, opened._writer  # which would close the transport if collected
        opened._reader = opened._writer = None
        self._transport: asyncio.Transport = self._writer.transport
        self._parser = _new_parser()
        self._handlers: Handlers = {}
        self._on_sign: Callable[[], None]
        self._on_reply: Callable[[Any], None] | None = None
        self._on_end: Callable[[Exception], None] = _ignore
        self._awaited = 0  # replies for `_on_reply`
        self._error: Exception | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(0)  # uvloop would write at the end of the turn
        self._parser.feed(bytes(reader._buffer))
        if reader.at_eof():
            self.eof_received()

    @property
    def is_ended(self) -> bool:
        """Whether Redis or this process has ended it."""
        return self._error is not None or self._transport.is_closing()

    def send(self, data: bytes) -> None:
        """Write without waiting; the caller reads the replies before it writes much more.

        Raises:
            RedisError, OSError: the connection has ended.
        """
        if self._error is not None:
            raise self._error
        self._transport.write(data)

    async def converse(self, commands: Sequence[Command]) -> list[Any]:
        """Write commands and read their replies, including errors of Redis; without a time limit.

        Raises:
            RedisError, OSError: the connection has ended, or Redis serves no client now.
        """
        self.send(packed(commands))
        return [await self.read() for _ in commands]

    async def read(self) -> Any:
        """Return the next reply, which may be an error of Redis. Only one task may read."""
        while (reply := self._parser.gets()) is False:  # there is no whole one yet
            if self._error is not None:
                raise self._error
            await self._arrival()
        if isinstance(reply, RedisConnectionError):
            raise reply
        return reply

    def ask(
        self,
        commands: Sequence[Command],
        on_reply: Callable[[Any], None],
        on_end: Callable[[Exception], None],
    ) -> None:
        """Write commands, and call functions with each reply, or with the error that ends it before.

        More may be written before all replies are there; the last functions get them. An exception of
        `on_reply` ends it, too, as does the reply of a Redis that serves no client now.
        """
        self.send(packed(commands))
        self._awaited += len(commands)
        self._on_reply, self._on_end = on_reply, on_end

    def take_back(self) -> None:
        """Undo `ask`."""
        self._on_reply, self._on_end = None, _ignore

    async def listen(self, handlers: Handlers, on_sign: Callable[[], None]) -> None:
        """Pass on what Redis publishes from now on, until the connection ends.

        All messages that arrive together are handled in one pass. If that takes long, nothing is read until
        the rest has been handled in later turns of the event loop.

        Args:
            handlers: what to call with the messages of each subscribed channel.
            on_sign: called when anything else arrives.

        Raises:
            Exception: the reason for the end; what a handler raised is one.
        """
        self._handlers, self._on_sign = handlers, on_sign
        self._hand_on()
        while self._error is None:
            await self._arrival()
        raise self._error

    def end(self, error: Exception | None = None) -> None:
        """End it without waiting, so that the task that reads it sees an error.

        Closing a transport waits until everything is sent and, with TLS, until the peer agrees. That may
        outlast the event loop, and keeps the unsent bytes in memory, so the transport is aborted.
        """
        self._fail(error or RedisConnectionError("the connection was closed by this process"))
        with suppress(*FOREIGN):
            self._transport.abort()

    def abandon(self) -> None:
        """Close the socket after the event loop was closed."""
        abandon_transport(self._transport)

    def data_received(self, data: bytes) -> None:  # noqa: D102 - of asyncio, like those below
        self._parser.feed(data)
        if self._on_reply is not None:
            self._take_replies()
        elif self._handlers:
            self._hand_on(len(data))
        else:
            self._wake()

    def eof_received(self) -> None:  # noqa: D102
        self._fail(RedisConnectionError("Connection closed by server."))

    def connection_lost(self, error: Exception | None) -> None:  # noqa: D102
        if error is not None:
            self._fail(RedisConnectionError(str(error) or type(error).__name__))
        self.eof_received()

    def _take_replies(self) -> None:
        """Pass on the replies that are whole."""
        next_reply, on_end = self._parser.gets, self._on_end
        try:
            while (on_reply := self._on_reply) is not None and (reply := next_reply()) is not False:
                if isinstance(reply, RedisConnectionError):
                    raise reply
                self._awaited -= 1
                if not self._awaited:
                    self.take_back()
                on_reply(reply)
        except Exception as error:  # noqa: BLE001 - the caller of `ask` gets it
            self._on_end = on_end
            self.end(error)

    def _hand_on(self, size: int = 0) -> None:
        """Handle messages of a read of `size` bytes; nothing is read until a later turn handles the rest."""
        is_done = False
        try:
            is_done = self._handle()
        except Exception as error:  # noqa: BLE001 - `listen` raises it
            self.end(error)
        if not self.is_ended and (size >= LARGE_READ or not is_done):
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _handle(self) -> bool:
        """Handle messages for a while; return whether these were all that have arrived."""
        next_reply, handlers, until = self._parser.gets, self._handlers, time.monotonic() + TURN
        while self._error is None:
            for _ in range(BLOCK):
                reply = next_reply()
                if reply is False:
                    return True
                if isinstance(reply, RedisError):
                    raise reply
                kind, channel, message = reply
                if kind == b"message":
                    handlers[channel](message)
                else:
                    self._on_sign()
            if time.monotonic() >= until:
                break
        return False

    def _go_on(self) -> None:
        if not self.is_ended:
            self._transport.resume_reading()
            self._hand_on()

    def _fail(self, error: Exception) -> None:
        if self._error is None:
            self._error = error
            self._wake()
            on_end = self._on_end
            self.take_back()
            on_end(error)

    async def _arrival(self) -> None:
        """Wait until something has arrived, or the connection has ended."""
        self._arrived = asyncio.get_running_loop().create_future()
        await self._arrived

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, None
        if arrived is not None and not arrived.done():
            arrived.set_result(None)


def _new_parser() -> hiredis.Reader:
    return hiredis.Reader(protocolError=InvalidResponse, replyError=DefaultParser.parse_error)


def packed(commands: Iterable[Command]) -> bytes:
    """Return commands as they are written; redis-py's own packing for asyncio takes eight times as long."""
    return b"".join(map(_pack, commands))


async def open_connection(unconnected: Any) -> AsyncConnection:
    """Connect a connection of redis-py, and take it over."""
    try:
        await unconnected.connect()
    except BaseException:
        with suppress(*FOREIGN):
            if unconnected._writer is not None:
                unconnected._writer.transport.abort()
            await unconnected.disconnect(nowait=True)
        raise
    return AsyncConnection(unconnected)


def _ignore(error: Exception) -> None:
    """Ignore the end of a connection without a caller of `ask`: its reader sees the error."""


def set_limit(connection: BlockingConnection, deadline: float) -> None:
    """Limit the next write or read to `deadline`; redis-py fixes its limit when it connects."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        sock.settimeout(remaining(deadline))


def is_ended(connection: BlockingConnection) -> bool:
    """Whether Redis has closed an idle connection: the end is all that one can read there."""
    try:
        return connection.can_read()
    except FOREIGN:
        return True


def remaining(deadline: float) -> float:
    """Seconds until `deadline` of the monotonic clock; never 0, which would mean not to wait at all."""
    return max(0.001, deadline - time.monotonic())
