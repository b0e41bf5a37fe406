"""Bounded pool of blocking connections for threads.

redis-py's own pool has separate limits for waiting, connecting and reading. This one keeps one deadline
over all three, so that a call ends within its limit whichever step is slow. Connections made before a
fork are never used after it, nor are those that were idle for long: a firewall that has forgotten a
connection silently drops everything that is sent on it.

A call takes the connection that was used last, without a lock; only calls that have to wait take one.
"""

import os
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TypeVar

from redis.exceptions import TimeoutError as RedisTimeoutError

from ...errors import BackendUnavailable, MesaError
from .address import Address
from .batch import Batch, Operation, join, split_reply
from .command import Command, Handshake, ServerInfo
from .connection import PooledConnection, disconnect_on_error, packed, remaining
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


class Pool:
    """Runs operations, each on a connection of its own. Any thread may use it.

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
        """Run `operation` before a deadline of the monotonic clock; see `Pipeline.carry_out`.

        Further steps of the operation have as much time as the first, each.
        """
        is_done = not operation.commands
        operation.began, operation.deadline = time.monotonic(), deadline
        while not is_done:
            try:
                is_done = self._run_once(operation)
            except MesaError as error:
                is_passing = isinstance(error, BackendUnavailable) and operation.is_doubtful
                if not is_passing or not _repeats(operation):
                    raise operation.doubting(error) from error.__cause__
                time.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
            except FOREIGN as error:
                if not _repeats(operation):
                    raise failed_call(self._address.label, error, maybe_sent=operation.is_written) from error
        return operation.result()

    def borrow(self, deadline: float, *, is_new: bool = False) -> PooledConnection:
        """Return a connection, or one that is new; the caller gives it back, or gives it up if it failed.

        Raises:
            BackendUnavailable: none was available before `deadline`.
            BackendRefused: Redis refuses this client.
        """
        process = self._of_this_process()
        connection: PooledConnection | None
        try:
            connection = process.take(deadline)
        except queue.Empty:
            problem = f"{self._address.label}: all {MAX_CONNECTIONS} connections are in use"
            raise BackendUnavailable(problem) from None
        try:
            if process.masters is not None:
                process.masters.refresh(deadline)
            if connection is not None and (is_new or not connection.is_usable(self._address.max_idle)):
                connection.disconnect()
                connection = None
            return connection or self._connect(deadline)
        except BaseException:
            self.give_up(connection)
            raise

    def give_back(self, connection: PooledConnection) -> None:
        """Keep a connection for another call."""
        self._process.give_back(connection)

    def give_up(self, connection: PooledConnection | None) -> None:
        """Close a borrowed connection, and make room for another one."""
        if connection is not None:
            connection.disconnect()
        self._process.give_up()

    def close(self) -> None:
        """Close idle connections now, and those in use when they are returned."""
        self._of_this_process().close()

    def _run_once(self, batch: Batch) -> bool:
        """Run a batch once; return whether its replies count."""
        connection = self.borrow(batch.deadline, is_new=batch.is_doubtful)
        try:
            is_done = self._carry_out(batch, connection)
        except BaseException:
            self.give_up(connection)
            raise
        self.give_back(connection)
        return is_done

    def _carry_out(self, batch: Batch, connection: PooledConnection) -> bool:
        where = self._address.label
        if self._handshake.lacking:
            self._handshake.permit(where, batch.commands)
        if batch.proof is not None:
            batch.proof.check(where, self._info)
        self._take_steps(batch, connection)
        failure = batch.failure(where) if batch.has_errors else None
        if failure is not None and batch.is_misled and (masters := self._of_this_process().masters):
            masters.doubt()
        if failure is None and batch.proof is not None and not batch.missing:
            failure = self._prove(batch.proof.demand(batch.replies), connection, batch.deadline)
        if connection.master.is_left:
            if _repeats(batch):
                return False
            if failure is None and batch.missing:
                failure = BackendUnavailable(f"{where}: another master was named", maybe_sent=True)
            elif failure is None and batch.proof is not None:
                failure = batch.proof.lost_master(where)
        if failure is not None:
            raise failure
        return True

    def _take_steps(self, batch: Batch, connection: PooledConnection) -> None:
        """Write the commands of a batch, and store its replies; each step has as much time as the first."""
        is_first = connection.is_new or not batch.is_repeatable
        limit = batch.deadline if is_first else batch.first_limit(time.monotonic(), batch.deadline)
        self._write_and_read(batch, connection, limit)
        while batch.missing and not connection.master.is_left:
            now = time.monotonic()
            batch.began, batch.deadline = now, batch.deadline + now - batch.began
            self._write_and_read(batch, connection, batch.deadline)

    def _write_and_read(self, batch: Batch, connection: PooledConnection, limit: float) -> None:
        """Write a step of a batch, and store its replies; a script that Redis did not know is sent twice."""
        joined, counts = join(batch.begin(time.monotonic()))
        for reply, count in zip(self._talk(connection, joined, limit), counts, strict=True):
            for each in split_reply(reply, count):
                batch.add(each)
        if batch.runs_again:
            if batch.lacks_scripts:
                self._shake_hands(connection, batch.deadline)
            for reply in self._talk(connection, batch.begin(time.monotonic()), batch.deadline):
                batch.add(reply)
            if batch.runs_again:
                batch.missing = ()

    def _shake_hands(self, connection: PooledConnection, deadline: float) -> None:
        first, *others = self._handshake.commands
        replies = self._talk(connection, [first], deadline) + self._talk(connection, others, deadline)
        self._info = self._handshake.check(self._address.label, replies)

    def _talk(self, connection: PooledConnection, commands: Sequence[Command], deadline: float) -> list[Any]:
        """Write commands and read their replies, before Sentinels name another master."""
        connection.write(packed(commands), deadline)
        if connection.master is not FIXED:
            self._wait(connection, deadline)
        return connection.read(len(commands), deadline)

    def _prove(
        self, demand: Demand, connection: PooledConnection, deadline: float
    ) -> BackendUnavailable | None:
        """Wait for copies on the connection that ran the scripts; return the failure, if there is one."""
        due = connection.master.due(demand.replicas, time.monotonic())
        replies = self._talk(connection, demand.commands(remaining(deadline)), deadline)
        failure = demand.shortfall(self._address.label, demand, replies)
        if failure is None and due is not None and not self._hold(connection, due, deadline):
            failure = demand.unsure(self._address.label)
        return failure

    def _hold(self, connection: PooledConnection, due: float, deadline: float) -> bool:
        """Hold back a confirmation of fewer replicas than before; return whether it counts. See `master`."""
        masters = self._of_this_process().masters
        if masters is None:
            return False
        while not connection.master.is_left and (left := due - time.monotonic()) > 0:
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(left, remaining(deadline), APART / 4))
            masters.refresh(deadline)
        return masters.confirm(max(due, time.monotonic() - APART), deadline)

    def _of_this_process(self) -> "_Process":
        """Return the connections of this process; after a fork there are none yet."""
        process = self._process
        if process.forks != _forks.count:
            process = self._process = _Process(self._address)
        return process

    def _wait(self, connection: PooledConnection, deadline: float) -> None:
        """Wait for a reply for as long as the connection leads to the master."""
        masters = self._of_this_process().masters
        while masters is not None and not connection.can_read(min(APART, remaining(deadline))):
            if time.monotonic() >= deadline:
                return
            masters.refresh(deadline)
            if connection.master.is_left:
                raise RedisTimeoutError("another master was named")

    def _connect(self, deadline: float) -> PooledConnection:
        """Connect; with Sentinels, spend only a part of the time on one master: they may name another."""
        while True:
            limit = deadline
            if self._address.sentinels is not None:
                least, most = ATTEMPT
                half = max(least, min(most, remaining(deadline) / 2))
                limit = min(deadline, time.monotonic() + half)
            try:
                opened = self._address.connect(remaining(limit))
                with disconnect_on_error(opened):
                    self._shake_hands(connection := PooledConnection(opened), limit)
                return connection
            except FOREIGN as error:
                if limit == deadline or not isinstance(error, TIMEOUTS):
                    raise self._address.failed(error) from error


def _repeats(batch: Batch) -> bool:
    """Reset a batch for another run, if that is safe and there is time; return whether it was."""
    now = time.monotonic()
    return now + 2 * PAUSE < batch.deadline and batch.repeat(now)


class _Forks:
    """Counts how often this process has been forked off; asking the system for its id takes longer."""

    def __init__(self) -> None:
        self.count = 0
        os.register_at_fork(after_in_child=self._add)

    def _add(self) -> None:
        self.count += 1


_forks = _Forks()


class _Process:
    """Connections of one process."""

    def __init__(self, address: Address) -> None:
        self.forks = _forks.count
        self.masters = address.masters
        if self.masters is not None:
            self.masters.hold(self)
        self._idle: list[PooledConnection] = []
        self._waiting: deque[queue.SimpleQueue[PooledConnection | None]] = deque()
        self._lock = threading.Lock()
        self._count = 0
        self._is_closed = False

    def take(self, deadline: float) -> PooledConnection | None:
        """Return the idle connection used last; None with the right to make one.

        Raises:
            queue.Empty: there was none before `deadline`.
        """
        try:
            return self._idle.pop()
        except IndexError:
            mine: queue.SimpleQueue[PooledConnection | None] = queue.SimpleQueue()
        self._waiting.append(mine)
        self._serve_waiting()
        try:
            return mine.get(timeout=remaining(deadline))
        except BaseException as error:  # such as the KeyboardInterrupt of a signal
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise
            given = mine.get()  # it came just now
            if isinstance(error, queue.Empty):
                return given
            self.give_back(given) if given is not None else self.give_up()
            raise

    def give_back(self, connection: PooledConnection) -> None:
        connection.is_new, connection.used_at = False, time.monotonic()
        self._idle.append(connection)
        if self._waiting:  # who waits looks for idle ones after it is in this queue, so one of both sees it
            self._serve_waiting()
        if self._is_closed:
            self.close()

    def give_up(self) -> None:
        with self._lock:
            self._count -= 1
        self._serve_waiting()

    def close(self) -> None:
        self._is_closed = True
        if self.masters is not None:
            self.masters.release(self)
        with suppress(IndexError):
            while True:
                self._idle.pop().disconnect()
                self.give_up()

    def _serve_waiting(self) -> None:
        """Hand on idle connections, and rights to make one, in the order in which calls began to wait."""
        with self._lock:
            while self._waiting:
                try:
                    given = self._idle.pop()
                except IndexError:
                    if self._count == MAX_CONNECTIONS:
                        return
                    given, self._count = None, self._count + 1
                self._waiting.popleft().put(given)
