"""Bounded pool of blocking connections for threads.

redis-py's own pool has separate limits for waiting, connecting and reading. This one keeps one deadline
over all three, so that a call ends within its limit whichever step is slow. Connections made before a
fork are never used after it, nor are those that were idle for long: a firewall that has forgotten a
connection silently drops everything that is sent on it.
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
from .connection import BlockingConnection, is_ended, read_reply, remaining, set_limit
from .failures import FOREIGN
from .master import FIXED
from .resolver import APART

MAX_CONNECTIONS = 50
"""Calls at the same time; further ones wait."""

ATTEMPT = (1.0, 3.0)
"""Minimum and maximum seconds to connect to a master behind Sentinel: half of the remaining time."""

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
        handshake: first commands of every connection.

    Attributes:
        info: description that Redis gave on the newest connection.
    """

    def __init__(self, address: Address, handshake: Handshake) -> None:
        self._address = address
        self._handshake = handshake
        self.info = ServerInfo()
        self._process = _Process(address)

    @contextmanager
    def lend(self, deadline: float, *, is_new: bool = False) -> Iterator[LentConnection]:
        """Lend a connection that is ready for use; it is closed if the block raises, else kept.

        Args:
            deadline: of the monotonic clock.
            is_new: lend none that was used before.

        Raises:
            BackendUnavailable: none was available before `deadline`.
            BackendRefused: Redis refuses this client.
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
        """Close idle connections now, and those in use when they are returned."""
        self._of_this_process().close()

    def shake_hands(self, connection: BlockingConnection, deadline: float) -> None:
        """Send the first commands of a connection; raises the errors of redis-py."""
        first, *others = self._handshake.commands
        replies = self.talk(connection, [first], deadline) + self.talk(connection, others, deadline)
        self.info = self._handshake.check(self._address.label, replies)

    def talk(self, connection: BlockingConnection, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Write commands and read their replies, including errors of Redis.

        Raises:
            redis.RedisError, OSError: the connection was lost, or no reply came before `deadline`, or
                before Sentinels named another master.
        """
        packed = connection.pack_commands(commands)
        set_limit(connection, deadline)
        connection.send_packed_command(packed)
        if connection.mesa_master is not FIXED:
            self._wait(connection, deadline)
        return [read_reply(connection, deadline) for _ in commands]

    def hold(self, connection: BlockingConnection, due: float, deadline: float) -> bool:
        """Hold back the confirmation of fewer replicas than before; return whether it counts.

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
        """Ask the Sentinels soon, because Redis did not answer like a master; see `MasterResolver.doubt`."""
        masters = self._of_this_process().masters
        if masters is not None:
            masters.doubt()

    def permit(self, commands: Sequence[Command]) -> None:
        """Check that the Redis user has the rights for commands; see `Handshake.permit`."""
        self._handshake.permit(self._address.label, commands)

    def _of_this_process(self) -> "_Process":
        """Return the connections of this process; after a fork there are none yet."""
        process = self._process
        if process.pid != os.getpid():
            process = self._process = _Process(self._address)
        return process

    def _wait(self, connection: BlockingConnection, deadline: float) -> None:
        """Wait for a reply for as long as the connection leads to the master."""
        masters = self._of_this_process().masters
        while masters is not None and not connection.can_read(min(APART, remaining(deadline))):
            if time.monotonic() >= deadline:
                return
            masters.refresh(deadline)
            if connection.mesa_master.is_left:
                raise RedisTimeoutError("another master was named")

    def _connect(self, deadline: float) -> BlockingConnection:
        """Connect; with Sentinels, spend only a part of the time on one master: they may name another."""
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
        """Return the idle connection used last; discard closed ones and those idle for too long."""
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
