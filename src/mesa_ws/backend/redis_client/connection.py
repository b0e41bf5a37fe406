"""What is used of redis-py's connections, which have hardly any types, and what they keep private."""

import asyncio
import os
import re
import ssl
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import redis
from hiredis import pack_command
from redis import exceptions
from redis.exceptions import RedisError, ResponseError

from ...concurrency.event_loops import abandon_transport
from ...errors import BackendError, BackendRefused, BackendUnavailable
from ...tls import CERTIFICATE_REQUIRED, MAY_DEMAND, tls_error, tls_problem
from .command import CLUSTER, Command
from .master import Master

FOREIGN = (exceptions.RedisError, OSError, TimeoutError)
"""What redis-py and the network under it raise."""

_NOT_NOW = (
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,  # MASTERDOWN too
    exceptions.BusyLoadingError,
    exceptions.TryAgainError,
)

_NOT_NOW_TEXTS = (
    "BUSY ",
    "MISCONF ",
    "NOREPLICAS Not enough good replicas",
    "UNBLOCKED ",
    "max number of clients",
)

_ALONE = ("NOREPLICAS Not enough good replicas", "UNBLOCKED ")


PARTLY = "PARTLY "
"""What scripts put before an error that came when a part of their work was done."""

_RUNTIME_ERROR = re.compile(r"(ERR )?(Error running script|user_script:)")
"""What a fault of ours in a script looks like; nothing is known of what it did before."""

_FORBIDDEN = re.compile(r"(ERR |NOPERM )*(The user executing the script can't|ACL failure in script)")
"""What Redis 7.0, and later ones, say inside a script to a user who may not do that."""

_SCRIPT_NAME = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?")
"""What Redis adds to an error in a script; of no use to people."""

RIGHTS_PAGE = 'as the section "A user of its own" of the documentation says'
"""Where the rights are listed that a user of Redis needs."""

_NAME_OF_ONE = re.compile(r":[0-9a-f-]{32,36}$")
"""The end of the name of a channel that one process listens to."""

_HINTS = {
    exceptions.AuthenticationError: "check the user name and the password",
    exceptions.AuthenticationWrongNumberOfArgsError: "check the user name and the password",
    exceptions.NoPermissionError: f"grant the user all rights that Mesa needs, {RIGHTS_PAGE}",
    exceptions.OutOfMemoryError: "Redis is full",
    exceptions.InvalidResponse: "is this a Redis?",
    exceptions.MovedError: CLUSTER,
    exceptions.ClusterCrossSlotError: CLUSTER,
}


def failed_connect(where: str, error: Exception, *, is_secure: bool = False) -> BackendError:
    """The error for a connection that did not come about; nothing was sent.

    Args:
        where: names the Redis.
        error: of redis-py, or of the network.
        is_secure: whether it was to be a connection with TLS.
    """
    if _is_answer(error):
        return _refused(where, error)
    advice = _advice(error) if is_secure else ""
    return BackendUnavailable(f"{where}: no connection ({_text(error)}{advice})")


def forbidden_subscribe(where: str, channels: Iterable[str], error: Exception) -> BackendError:
    """The error for a subscription that the user may not have."""
    if "channel" not in str(error):
        return lacking_rights(where, ["+subscribe"])
    return lacking_rights(where, [f"&{_NAME_OF_ONE.sub(':*', channel)}" for channel in channels])


def lacking_rights(where: str, rights: Iterable[str]) -> BackendRefused:
    """The error for a user who has too few rights; nothing was written.

    Args:
        where: which Redis.
        rights: what is lacking, as ACL SETUSER takes it.
    """
    lacking = " ".join(dict.fromkeys(rights))
    return BackendRefused(
        f"{where}: refused (its user lacks {lacking}); grant that with ACL SETUSER, {RIGHTS_PAGE}"
    )


def failed_call(where: str, error: Exception, *, maybe_sent: bool) -> BackendError:
    """The error for a call that ended without a usable reply."""
    if is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}", maybe_sent=maybe_sent)
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return BackendUnavailable(f"{where}: no answer in time", maybe_sent=maybe_sent)
    return BackendUnavailable(f"{where}: the connection was lost ({_text(error)})", maybe_sent=maybe_sent)


def failed_reply(where: str, error: exceptions.RedisError) -> BackendError:
    """The error for a reply that is an error; `is_partial` says whether a part was done."""
    if is_not_now(error):
        return BackendUnavailable(f"{where}: {_text(error)}")
    return _refused(where, error)


def is_not_now(error: BaseException) -> bool:
    """Whether Redis would do it later, or another Redis would do it now."""
    return isinstance(error, _NOT_NOW) or str(error).startswith(_NOT_NOW_TEXTS)


def is_of_no_master(reply: object) -> bool:
    """Whether a reply shows that this Redis is not the master, or lost its replicas and may soon not be."""
    return isinstance(reply, exceptions.ReadOnlyError | exceptions.ClusterDownError) or (
        isinstance(reply, exceptions.ResponseError) and str(reply).startswith(_ALONE)
    )


def is_forbidden(reply: object) -> bool:
    """Whether Redis replied that its user may not do that, itself or in a script."""
    if isinstance(reply, exceptions.NoPermissionError):
        return True
    text = str(reply).removeprefix(PARTLY)
    return isinstance(reply, exceptions.ResponseError) and _FORBIDDEN.match(text) is not None


def is_partial(reply: object) -> bool:
    """Whether a script may have done a part of its work before it failed."""
    if not isinstance(reply, exceptions.ResponseError):
        return False
    return str(reply).startswith(PARTLY) or _RUNTIME_ERROR.match(str(reply)) is not None


def _is_answer(error: Exception) -> bool:
    if is_not_now(error):
        return False
    return isinstance(
        error, exceptions.AuthenticationError | exceptions.ResponseError | exceptions.InvalidResponse
    )


def _refused(where: str, error: Exception) -> BackendRefused:
    hint = next((hint for kind, hint in _HINTS.items() if isinstance(error, kind)), None)
    if is_forbidden(error):
        hint = _HINTS[exceptions.NoPermissionError]
    if "compiling script" in str(error):
        hint = "Redis 7 or later is needed"
    if str(error).startswith("NOREPLICAS "):
        hint = "nothing was stored; use 'memory' or 'fsync', or add a replica"
    return BackendRefused(f"{where}: refused ({_text(error)})" + (f"; {hint}" if hint else ""))


def _advice(error: BaseException) -> str:
    """What to do about a connection with TLS that did not come about."""
    cause = tls_error(error) or error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return "; name a file with the certificates to trust with ssl_ca_certs"
    if isinstance(cause, ssl.SSLEOFError | ConnectionResetError | BrokenPipeError):
        return f"; {MAY_DEMAND}, which ssl_certfile and ssl_keyfile would show"
    if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", None) == CERTIFICATE_REQUIRED:
        return "; show it with ssl_certfile and ssl_keyfile"
    return ""


def _text(error: BaseException) -> str:
    """One short line, without control characters."""
    problem = tls_problem(error)
    if problem is not None:
        return problem
    cause = error.__cause__ or error.__context__
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    text = _SCRIPT_NAME.sub("", str(error)).removeprefix(PARTLY)
    line = " ".join(text.split()) or type(error).__name__
    return "".join(c for c in line if c.isprintable())[:200]


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
