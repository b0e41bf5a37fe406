"""Blocking connections for threads, a bounded number of them.

redis-py's own pool waits, connects and reads with a limit for each; this one keeps one deadline
over all of it, so that a call ends within its limit whatever is slow. Connections made before a
fork are never used after it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import BackendUnavailable
from .address import Address
from .connection import BlockingConnection, is_ended, read_reply, remaining, set_limit
from .failure import FOREIGN, failed_connect
from .greeting import Facts, Greeting

MAX_CONNECTIONS = 50
"""Calls at a time; more wait for their turn."""


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
    def lend(self, deadline: float) -> Iterator[BlockingConnection]:
        """A connection that is ready for use; given back in good order, else it is closed.

        Raises:
            BackendUnavailable: there was none before `deadline` (of the monotonic clock).
            BackendRefused: Redis does not let us in.
        """
        process = self._of_this_process()
        if not process.turns.acquire(timeout=remaining(deadline)):
            raise BackendUnavailable(f"{self._address.label}: all {MAX_CONNECTIONS} connections are in use")
        try:
            connection = process.take() or self._connect(deadline)
            try:
                yield connection
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
            raise failed_connect(self._address.label, error) from error
        try:
            self.shake_hands(connection, deadline)
        except FOREIGN as error:
            connection.disconnect()
            raise failed_connect(self._address.label, error) from error
        except BaseException:
            connection.disconnect()
            raise
        return connection


class _Process:
    """Connections of one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.turns = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._idle: list[BlockingConnection] = []
        self._is_closed = False

    def take(self) -> BlockingConnection | None:
        """The connection used last, passing over those that Redis has closed."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if not is_ended(connection):
                return connection
            connection.disconnect()

    def give_back(self, connection: BlockingConnection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self.close()

    def close(self) -> None:
        self._is_closed = True
        while (connection := self.take()) is not None:
            connection.disconnect()
