"""Blocking connections for threads, a bounded number of them.

redis-py's own pool waits, connects and reads with a limit for each; this one keeps one deadline
over all of it, so that a call ends within its limit whatever is slow. Connections made before a
fork are never used after it, nor are those that were idle for long: a firewall that has forgotten a
connection drops what is sent on it, and says nothing.
"""

import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import BackendUnavailable
from .address import Address
from .command import Command, Handshake, ServerInfo
from .connection import FOREIGN, BlockingConnection, is_ended, read_reply, remaining, set_limit
from .master import FIXED
from .resolver import APART

MAX_CONNECTIONS = 50
"""Calls at a time; more wait for their turn."""


ATTEMPT = (1.0, 3.0)
"""Seconds, at least and at most, that a master behind Sentinel gets for a connection: half of its time."""

TIMEOUTS = (TimeoutError, RedisTimeoutError)


class LentConnection(NamedTuple):
    """A connection in use.

    Attributes:
        connection: to Redis.
        is_new: whether it was made for this call.
    """

    connection: BlockingConnection
    is_new: bool


class Pool:
    """Lends a connection to one call at a time. Any thread may use it.

    Args:
        address: where to connect.
        handshake: what every connection begins with.

    Attributes:
        info: what Redis said of itself on the newest connection.
    """

    def __init__(self, address: Address, handshake: Handshake) -> None:
        self._address = address
        self._handshake = handshake
        self.info = ServerInfo()
        self._process = _Process(address)

    @contextmanager
    def lend(self, deadline: float, *, is_new: bool = False) -> Iterator[LentConnection]:
        """Lend a connection that is ready for use; given back in good order, else it is closed.

        Args:
            deadline: of the monotonic clock.
            is_new: lend none that was used before.

        Raises:
            BackendUnavailable: there was none before `deadline` (of the monotonic clock).
            BackendRefused: Redis does not let us in.
        """
        process = self._of_this_process()
        if not process.turns.acquire(timeout=remaining(deadline)):
            raise BackendUnavailable(f"{self._address.label}: all {MAX_CONNECTIONS} connections are in use")
        try:
            if process.masters is not None:
                process.masters.refresh(deadline)
            idle = None if is_new else process.take(self._address.max_idle)
            connection = idle or self._connect(deadline)
            try:
                yield LentConnection(connection, idle is None)
            except BaseException:
                connection.disconnect()
                raise
            process.give_back(connection)
        finally:
            process.turns.release()

    def close(self) -> None:
        """Close idle connections now, and those in use as soon as they come back."""
        self._of_this_process().close()

    def shake_hands(self, connection: BlockingConnection, deadline: float) -> None:
        """Say what every connection begins with; errors that Redis replies with are redis-py's."""
        replies = self.talk(connection, self._handshake.commands, deadline)
        self.info = self._handshake.check(self._address.label, replies)

    def talk(self, connection: BlockingConnection, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Write commands and read their replies, errors of Redis among them.

        Raises:
            redis.RedisError, OSError: the connection was lost, or there was no reply before `deadline`, or
                none before another master was named.
        """
        packed = connection.pack_commands(commands)
        set_limit(connection, deadline)
        connection.send_packed_command(packed)
        if connection.mesa_master is not FIXED:
            self._wait(connection, deadline)
        return [read_reply(connection, deadline) for _ in commands]

    def hold(self, connection: BlockingConnection, due: float, deadline: float) -> bool:
        """Hold back the confirmation of fewer replicas than before; returns whether it counts.

        See `Copies`.
        """
        masters = self._of_this_process().masters
        if masters is None:
            return False
        while not connection.mesa_master.is_left and (left := due - time.monotonic()) > 0:
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(left, remaining(deadline), APART / 4))
            masters.refresh(deadline)
        return masters.confirm(max(due, time.monotonic() - APART), deadline)

    def doubt(self) -> None:
        """Ask for the master soon, because Redis did not answer as one; see `MasterResolver.doubt`."""
        masters = self._of_this_process().masters
        if masters is not None:
            masters.doubt()

    def permit(self, commands: Sequence[Command]) -> None:
        """See that the user of Redis has the rights for commands; see `Handshake.permit`."""
        self._handshake.permit(self._address.label, commands)

    def _of_this_process(self) -> "_Process":
        """What belongs to this process; after a fork that is nothing yet."""
        process = self._process
        if process.pid != os.getpid():
            process = self._process = _Process(self._address)
        return process

    def _wait(self, connection: BlockingConnection, deadline: float) -> None:
        """Wait for a reply for as long as it is the master that owes it."""
        masters = self._of_this_process().masters
        while masters is not None and not connection.can_read(min(APART, remaining(deadline))):
            if time.monotonic() >= deadline:
                return
            masters.refresh(deadline)
            if connection.mesa_master.is_left:
                raise RedisTimeoutError("another master was named")

    def _connect(self, deadline: float) -> BlockingConnection:
        """Connect; where Sentinels may name another master, not all of the time is spent on one."""
        while True:
            limit = deadline
            if self._address.sentinels is not None:
                least, most = ATTEMPT
                half = max(least, min(most, remaining(deadline) / 2))
                limit = min(deadline, time.monotonic() + half)
            try:
                return self._open(limit)
            except FOREIGN as error:
                if limit == deadline or not isinstance(error, TIMEOUTS):
                    raise self._address.failed(error) from error

    def _open(self, deadline: float) -> BlockingConnection:
        connection = self._address.connect(remaining(deadline))
        try:
            self.shake_hands(connection, deadline)
        except BaseException:
            connection.disconnect()
            raise
        return connection


class _Process:
    """Connections of one process."""

    def __init__(self, address: Address) -> None:
        self.pid = os.getpid()
        self.masters = address.masters
        if self.masters is not None:
            self.masters.hold(self)
        self.turns = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: list[tuple[BlockingConnection, float]] = []
        self._is_closed = False

    def take(self, max_idle: float) -> BlockingConnection | None:
        """The connection used last, passing over those that Redis has closed or that were idle too long."""
        while True:
            try:
                connection, used = self._idle.pop()
            except IndexError:
                return None
            is_fit = time.monotonic() - used < max_idle and not connection.mesa_master.is_left
            if is_fit and not is_ended(connection):
                return connection
            connection.disconnect()

    def give_back(self, connection: BlockingConnection) -> None:
        self._idle.append((connection, time.monotonic()))
        if self._is_closed:
            self.close()

    def close(self) -> None:
        self._is_closed = True
        if self.masters is not None:
            self.masters.release(self)
        while (connection := self.take(math.inf)) is not None:
            connection.disconnect()
