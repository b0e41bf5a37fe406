"""What is used of redis-py's connections, which have hardly any types, and what they keep private."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import redis
from hiredis import pack_command
from redis.exceptions import RedisError, ResponseError

from ..event_loops import abandon_transport
from .failure import FOREIGN
from .master import Master
from .plan import Command

MAX_IDLE = 30.0
"""Seconds after which an idle connection is replaced; firewalls forget connections after minutes."""

DRIVER: Mapping[str, Any] = {"driver_info": redis.DriverInfo()} if hasattr(redis, "DriverInfo") else {}
"""How redis-py names itself to Redis, as an option of a connection: some of its versions would otherwise read
their own version from disk for each one."""


class BlockingConnection(Protocol):
    """`redis.Connection` and its kin."""

    mesa_master: Master
    """Where it leads."""

    def connect(self) -> None: ...  # noqa: D102
    def disconnect(self) -> None: ...  # noqa: D102
    def can_read(self, timeout: float = 0) -> bool: ...  # noqa: D102
    def pack_commands(self, commands: Iterable[Command], /) -> list[bytes]: ...  # noqa: D102
    def send_packed_command(self, command: Iterable[bytes], /) -> None: ...  # noqa: D102
    def read_response(self) -> Any: ...  # noqa: D102


class AsyncConnection(Protocol):
    """`redis.asyncio.Connection` and its kin."""

    mesa_master: Master
    """Where it leads."""

    async def connect(self) -> None: ...  # noqa: D102
    async def disconnect(self, nowait: bool = False) -> None: ...  # noqa: D102
    def pack_commands(self, commands: Iterable[Command], /) -> list[bytes]: ...  # noqa: D102
    async def send_packed_command(self, command: Iterable[bytes], /) -> None: ...  # noqa: D102
    async def read_response(self) -> Any: ...  # noqa: D102


def packed(commands: Iterable[Command]) -> list[bytes]:
    """Commands as they go over the wire; redis-py's own packing for asyncio takes eight times as long."""
    # Its annotation says a tuple of one member.
    return [b"".join([pack_command(command) for command in commands])]  # type: ignore[arg-type]


def raise_first(replies: Iterable[Any]) -> None:
    """Raise the first error that Redis replied with."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply


def read_reply(connection: BlockingConnection, deadline: float) -> Any:
    """Read one reply; an error that Redis replies with is returned, not raised."""
    set_limit(connection, deadline)
    try:
        return connection.read_response()
    except ResponseError as error:
        return error


async def aread_reply(connection: AsyncConnection) -> Any:
    """`read_reply` for asyncio, without a limit."""
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


async def say_farewell(connection: AsyncConnection, commands: Sequence[Command], limit: float) -> None:
    """Send commands to a Redis that is left, if it still takes them; their replies do not matter.

    Args:
        connection: on which no reply is awaited.
        commands: what to send.
        limit: seconds for all of it.
    """
    with suppress(*FOREIGN):
        async with asyncio.timeout(limit):
            await connection.send_packed_command(packed(commands))
            for _ in commands:
                await aread_reply(connection)


async def open_connection(connection: AsyncConnection) -> None:
    """Connect, and note the transport: redis-py forgets it when it is cancelled while it writes."""
    await connection.connect()
    private: Any = connection
    private.mesa_transport = private._writer.transport


async def hang_up(connection: AsyncConnection) -> None:
    """Disconnect without waiting for anything.

    A transport that is only closed would wait until all is sent and, with TLS, until the other side
    agrees: for longer than its event loop may last, and with all that is not sent in memory.
    """
    with suppress(*FOREIGN):
        abort(connection)
        await connection.disconnect(nowait=True)


def abort(connection: AsyncConnection) -> None:
    """Cut a connection, so that the task that reads it finds that it is lost."""
    transport = _transport(connection)
    if transport is not None:
        transport.abort()


def abandon(connection: AsyncConnection) -> None:
    """Close the socket of a connection whose event loop is closed; redis-py would ask that loop."""
    private: Any = connection
    transport = _transport(connection)
    if transport is not None:
        abandon_transport(transport)
    private._reader = private._writer = None  # a writer that goes before its transport would complain


def _transport(connection: AsyncConnection) -> Any:
    """Return the transport of a connection; None before there is one."""
    writer = getattr(connection, "_writer", None)
    return getattr(connection, "mesa_transport", None) if writer is None else writer.transport


def set_limit(connection: BlockingConnection, deadline: float) -> None:
    """Let the next write or read end at `deadline`; redis-py fixes its limit when it connects."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        sock.settimeout(remaining(deadline))


def is_ended(connection: BlockingConnection) -> bool:
    """Whether Redis has closed an idle connection: there is nothing else to read on one."""
    try:
        return connection.can_read()
    except (RedisError, OSError):
        return True


def is_ended_async(connection: AsyncConnection) -> bool:
    """`is_ended` for asyncio, where no public call tells in all versions of redis-py."""
    reader = getattr(connection, "_reader", None)
    return reader is None or reader.at_eof()


def remaining(deadline: float) -> float:
    """Seconds until `deadline` of the monotonic clock; never 0, which would mean not to wait at all."""
    return max(0.001, deadline - time.monotonic())
