"""Typed access to redis-py's connections, private parts included."""

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import redis
from redis.exceptions import ResponseError

from ...concurrency.event_loops import abandon_transport
from .command import Command
from .failures import FOREIGN
from .master import Master

MAX_IDLE = 30.0
"""Seconds after which an idle connection is replaced; firewalls forget connections after minutes."""

DRIVER: Mapping[str, Any] = {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}
"""Connection option by which redis-py names itself to Redis: without it, some versions of redis-py read their
own version from disk for each connection."""


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


class AsyncConnection(Protocol):
    """`redis.asyncio.Connection` and its variants."""

    mesa_master: Master
    """The master that it leads to."""

    mesa_reader: asyncio.StreamReader
    """Its reader, at the end of which Redis has closed the connection."""

    async def connect(self) -> None: ...  # noqa: D102
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: D102
    def pack_commands(self, commands: Iterable[Command], /) -> list[bytes]: ...  # noqa: D102
    async def send_packed_command(self, command: Iterable[bytes], /) -> None: ...  # noqa: D102
    async def read_response(self) -> Any: ...  # noqa: D102


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


async def converse(connection: AsyncConnection, commands: Sequence[Command]) -> list[Any]:
    """Write commands and read their replies, including errors of Redis; without a time limit."""
    await connection.send_packed_command(connection.pack_commands(commands))
    replies = list[Any]()
    for _ in commands:
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies


async def open_connection(connection: AsyncConnection) -> None:
    """Connect, and keep the transport: redis-py loses it when a write is cancelled."""
    await connection.connect()
    private: Any = connection
    private.mesa_transport, private.mesa_reader = private._writer.transport, private._reader


async def hang_up(connection: AsyncConnection) -> None:
    """Disconnect without waiting.

    Closing a transport waits until everything is sent and, with TLS, until the peer agrees. That may
    outlast the event loop, and keeps the unsent bytes in memory, so the transport is aborted.
    """
    with suppress(*FOREIGN):
        abort(connection)
        await connection.disconnect(nowait=True)


def abort(connection: AsyncConnection) -> None:
    """Abort a connection, so that the task that reads it sees a lost connection."""
    transport = _transport(connection)
    if transport is not None:
        transport.abort()


def abandon(connection: AsyncConnection) -> None:
    """Close the socket of a connection whose event loop is closed; redis-py would use that loop."""
    private: Any = connection
    transport = _transport(connection)
    if transport is not None:
        abandon_transport(transport)
    private._reader = private._writer = None  # a writer collected before its transport would warn


def _transport(connection: AsyncConnection) -> Any:
    """Return the transport of a connection; None before there is one."""
    writer = getattr(connection, "_writer", None)
    return getattr(connection, "mesa_transport", None) if writer is None else writer.transport


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
