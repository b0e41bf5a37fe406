"""Bounded pool of blocking connections for threads.

redis-py's own pool has separate limits for waiting, connecting and reading. This one keeps one deadline
over all three, so that a call ends within its limit whichever step is slow. Connections made before a
fork are never used after it, nor are those that were idle for long: a firewall that has forgotten a
connection silently drops everything that is sent on it.
"""

import math
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import BackendUnavailable, MesaError
from .address import Address
from .batch import Batch, Operation
from .command import Command, Handshake, ServerInfo
from .connection import BlockingConnection, disconnect_on_error, is_ended, read_reply, remaining, set_limit
from .durability import Demand
from .failures import FOREIGN, failed_call
from .master import FIXED
from .pipeline import PAUSE
from .resolver import APART

T = TypeVar("T")

MAX_CONNECTIONS = 50
"""Calls at the same time; further ones wait."""

ATTEMPT = (1.0, 3.0)
"""Minimum and maximum seconds to connect to a master behind Sentinel: half of the remaining time."""

TIMEOUTS = (TimeoutError, RedisTimeoutError)


class LentConnection(NamedTuple):
    """A connection in use, and whether it was made for this call."""

    connection: BlockingConnection
    is_new: bool


class Pool:
    """Lends a connection to one call at a time. Any thread may use it.

    Args:
        address: where to connect.
        handshake: first commands of every connection.
    """

    def __init__(self, address: Address, handshake: Handshake) -> None:
        self._address = address
        self._handshake = handshake
        self._info = ServerInfo()
        self._process = _Process(address)

    def run(self, operation: Operation[T], deadline: float) -> T:
        """Run `operation` before a deadline of the monotonic clock; see `Pipeline.carry_out`."""
        is_done = not operation.commands
        while not is_done:
            try:
                with self.lend(deadline, is_new=operation.is_doubtful) as lent:
                    is_done = self._carry_out(operation, lent, deadline)
            except MesaError as error:
                is_passing = isinstance(error, BackendUnavailable) and operation.is_doubtful
                if not is_passing or not _repeats(operation, deadline):
                    raise operation.doubting(error) from error.__cause__
                time.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
            except FOREIGN as error:
                if not _repeats(operation, deadline):
                    raise failed_call(self._address.label, error, maybe_sent=operation.is_written) from error
        return operation.read(operation.replies)

    @contextmanager
    def lend(self, deadline: float, *, is_new: bool = False) -> Iterator[LentConnection]:
        """Lend a connection, or one that is new; it is closed if the block raises, else kept.

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
            with disconnect_on_error(connection):
                yield LentConnection(connection, idle is None)
            process.give_back(connection)
        finally:
            process.turns.release()

    def close(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        self._of_this_process().close()

    def _carry_out(self, batch: Batch, lent: LentConnection, deadline: float) -> bool:
        """Run a batch once; return whether its replies count."""
        where, connection = self._address.label, lent.connection
        self._handshake.permit(where, batch.commands)
        if batch.proof is not None:
            batch.proof.check(where, self._info)
        self._write_and_read(
            batch, connection, deadline if lent.is_new else batch.first_limit(time.monotonic(), deadline)
        )
        if batch.missing:
            self._shake_hands(connection, deadline)
            self._write_and_read(batch, connection, deadline)
        failure = batch.failure(where) if batch.has_errors else None
        if failure is not None and batch.is_misled and (masters := self._of_this_process().masters):
            masters.doubt()
        if failure is None and batch.proof is not None:
            failure = self._prove(batch.proof.demand(batch.replies), connection, deadline)
        if connection.mesa_master.is_left:
            if _repeats(batch, deadline):
                return False
            if failure is None and batch.proof is not None:
                failure = batch.proof.lost_master(where)
        if failure is not None:
            raise failure
        return True

    def _write_and_read(self, batch: Batch, connection: BlockingConnection, deadline: float) -> None:
        """Write the unsent commands, and store their replies in the batch."""
        for reply in self._talk(connection, batch.begin(time.monotonic()), deadline):
            batch.add(reply)

    def _shake_hands(self, connection: BlockingConnection, deadline: float) -> None:
        first, *others = self._handshake.commands
        replies = self._talk(connection, [first], deadline) + self._talk(connection, others, deadline)
        self._info = self._handshake.check(self._address.label, replies)

    def _talk(
        self, connection: BlockingConnection, commands: Sequence[Command], deadline: float
    ) -> list[Any]:
        """Write commands and read their replies, before Sentinels name another master; see `converse`."""
        packed = connection.pack_commands(commands)
        set_limit(connection, deadline)
        connection.send_packed_command(packed)
        if connection.mesa_master is not FIXED:
            self._wait(connection, deadline)
        return [read_reply(connection, deadline) for _ in commands]

    def _prove(
        self, demand: Demand, connection: BlockingConnection, deadline: float
    ) -> BackendUnavailable | None:
        """Wait for copies on the connection that ran the scripts; return the failure, if there is one."""
        due = connection.mesa_master.due(demand.replicas, time.monotonic())
        replies = self._talk(connection, demand.commands(remaining(deadline)), deadline)
        failure = demand.shortfall(self._address.label, demand, replies)
        if failure is None and due is not None and not self._hold(connection, due, deadline):
            failure = demand.unsure(self._address.label)
        return failure

    def _hold(self, connection: BlockingConnection, due: float, deadline: float) -> bool:
        """Hold back a confirmation of fewer replicas than before; return whether it counts. See `master`."""
        masters = self._of_this_process().masters
        if masters is None:
            return False
        while not connection.mesa_master.is_left and (left := due - time.monotonic()) > 0:
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(left, remaining(deadline), APART / 4))
            masters.refresh(deadline)
        return masters.confirm(max(due, time.monotonic() - APART), deadline)

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
                connection = self._address.connect(remaining(limit))
                with disconnect_on_error(connection):
                    self._shake_hands(connection, limit)
                return connection
            except FOREIGN as error:
                if limit == deadline or not isinstance(error, TIMEOUTS):
                    raise self._address.failed(error) from error


def _repeats(batch: Batch, deadline: float) -> bool:
    """Reset a batch for another run, if that is safe and there is time; return whether it was."""
    now = time.monotonic()
    return now + 2 * PAUSE < deadline and batch.repeat(now)


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
