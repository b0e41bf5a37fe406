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
from typing import NamedTuple

from ...errors import BackendUnavailable
from .address import Address
from .connection import BlockingConnection, is_ended, read_reply, remaining, set_limit
from .failure import FOREIGN
from .greeting import Facts, Greeting
from .plan import Command

MAX_CONNECTIONS = 50
"""Calls at a time; more wait for their turn."""


class Lent(NamedTuple):
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
        greeting: what every connection begins with.

    Attributes:
        facts: what Redis said of itself on the newest connection.
    """

    def __init__(self, address: Address, greeting: Greeting) -> None:
        self._address = address
        self._greeting = greeting
        self.facts = Facts()
        self._process = _Process()

    @contextmanager
    def lend(self, deadline: float, *, is_new: bool = False) -> Iterator[Lent]:
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
            idle = None if is_new else process.take(self._address.max_idle)
            connection = idle or self._connect(deadline)
            try:
                yield Lent(connection, idle is None)
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
        commands = self._greeting.commands
        set_limit(connection, deadline)
        connection.send_packed_command(connection.pack_commands(commands))
        replies = [read_reply(connection, deadline) for _ in commands]
        self.facts = self._greeting.check(self._address.label, replies)

    def permit(self, commands: Sequence[Command]) -> None:
        """See that the user of Redis has the rights for commands; see `Greeting.permit`."""
        self._greeting.permit(self._address.label, commands)

    def _of_this_process(self) -> "_Process":
        """What belongs to this process; after a fork that is nothing yet."""
        process = self._process
        if process.pid != os.getpid():
            process = self._process = _Process()
        return process

    def _connect(self, deadline: float) -> BlockingConnection:
        try:
            connection = self._address.connect(remaining(deadline))
        except FOREIGN as error:
            raise self._address.failed(error) from error
        try:
            self.shake_hands(connection, deadline)
        except FOREIGN as error:
            connection.disconnect()
            raise self._address.failed(error) from error
        except BaseException:
            connection.disconnect()
            raise
        return connection


class _Process:
    """Connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
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
            if time.monotonic() - used < max_idle and not is_ended(connection):
                return connection
            connection.disconnect()

    def give_back(self, connection: BlockingConnection) -> None:
        self._idle.append((connection, time.monotonic()))
        if self._is_closed:
            self.close()

    def close(self) -> None:
        self._is_closed = True
        while (connection := self.take(math.inf)) is not None:
            connection.disconnect()
