"""One ordered connection to Redis that many tasks share.

Callers queue batches and wait. What was queued in one turn of the event loop, or while replies are
outstanding, is written as one group, and the next group follows when all its replies are there. So a
cancelled batch never leaves its reply to another one, batches run in the order in which the calls started,
and the pipeline knows of each batch whether it was written.
The way of a batch is `carry_out`, `_end_turn`, `_begin`, `_write`, `Group.add`, `settle`. Of many batches in
one turn the first are written while it goes on (`_write_ahead`), so that Redis begins with them. A task takes
over where a group has to wait for more than its replies: for a connection, a proof, or a script to run again.

When Sentinels name another master, the connection to the old one is closed as soon as its replies are
read. A repeatable batch is not answered by a master that no longer counts: it runs on the new one.
A connection that was idle for long is replaced: a firewall may silently drop what is sent on it.

When a connection breaks, repeatable batches return to the front of the queue and are written first on the
next connection, so that no other batch overtakes them. The others fail.
"""

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import Any
from weakref import WeakMethod

from redis.exceptions import ConnectionError as RedisConnectionError

from ...concurrency.event_loops import abandon_task
from ...concurrency.tasks import start
from ...errors import BackendError, BackendUnavailable, MesaError
from .address import Address
from .batch import Batch, CallMeter, Group
from .command import Command, Handshake, ServerInfo
from .connection import AsyncConnection
from .durability import Proof, prove
from .failures import FOREIGN, failed_call
from .master import Master
from .resolver import MasterWatch

AHEAD = 32
"""Batches that are written before the turn of the event loop is over that has queued them."""

MAX_BATCH = 128
"""Commands that are written at once, unless a single batch has more."""

LAST_REPLIES = 0.5
"""Seconds for which the replies of a master that no longer counts are still read."""

PAUSE = 0.05
"""Base delay in seconds of a retry; up to 100 % jitter is added."""

CLOSED = "the connection was closed by this process"

TASK = "mesa-redis-pipeline"
"""Name of the task that carries out what takes more than a write and its replies."""

_log = logging.getLogger("mesa_ws.backend")


class Pipeline:
    """A connection that is opened when it is needed, and reopened after it was lost; in one event loop.

    Nothing is sent twice, except repeatable batches, and scripts that Redis did not know and therefore
    did not run.

    Args:
        address: where to connect.
        handshake: first commands of every connection.
        timeout: seconds for one batch, or for each of its steps, connecting included.
    """

    def __init__(self, address: Address, handshake: Handshake, timeout: float) -> None:
        self._address = address
        self._handshake = handshake
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._info = ServerInfo()
        self._used_at: float | None = None
        self._queue: deque[Batch] = deque()
        self._is_busy = False  # whether `_begin` will look at the queue again
        self._is_gathering = False  # whether `_end_turn` will, which may write more of the present group
        self._task: asyncio.Task[None] | None = None
        self._group: Group | None = None  # whose replies are outstanding
        self._talked: asyncio.Future[None] | None = None  # awaited by the task
        self._following: MasterWatch | None = None
        self._attempt: asyncio.Timeout | None = None
        self._proving: asyncio.Timeout | None = None
        self._outstanding: deque[Batch] = deque()  # by their deadlines; those that are done go first
        self._group_due = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._meet_deadlines = partial(_call, WeakMethod(self._on_time))
        self._is_closed = False
        self.generation = 0  # number of connections so far
        self.meter = CallMeter()
        self.on_reconnect: Callable[[], None] | None = None
        """Called after every reconnection: the Redis may have lost data."""

    async def execute(
        self,
        commands: Sequence[Command],
        *,
        is_repeatable: bool = False,
        known_for: float = math.inf,
        proof: Proof | None = None,
    ) -> list[Any]:
        """Run `commands`; see `carry_out`, and `Batch` for the arguments."""
        batch = Batch(commands, is_repeatable=is_repeatable, known_for=known_for, proof=proof)
        replies: list[Any] = await self.carry_out(batch)
        return replies

    def carry_out(self, batch: Batch) -> asyncio.Future[Any]:
        """Run the commands of `batch` in order, with no others between them.

        Cancelling is safe; Redis may still run them.

        Raises:
            BackendUnavailable: no reply within the time limit, or no connection.
            BackendRefused: Redis refused one of them; the others were run.
            Unsupported: this Redis cannot give the requested proof; nothing was sent.
        """
        batch.meter = self.meter
        self._enqueue(batch)
        return batch.future

    def check(self, proof: Proof) -> None:
        """Check that the Redis of the present connection can give a proof.

        Raises:
            Unsupported: it cannot.
        """
        proof.check(self._address.label, self._info)

    def post(
        self,
        commands: Sequence[Command],
        on_failure: Callable[[], None],
        on_replies: Callable[[list[Any]], None] | None = None,
        is_repeatable: bool = False,
    ) -> None:
        """Run `commands` without waiting, then call one of the functions. Never raises."""
        batch = Batch(commands, is_repeatable=is_repeatable)
        try:
            self._enqueue(batch)
        except BackendError:
            return

        def check(done: asyncio.Future[list[Any]]) -> None:
            if done.cancelled():
                return
            if done.exception() is not None:
                on_failure()
            elif on_replies is not None:
                on_replies(done.result())

        batch.future.add_done_callback(check)

    async def aclose(self) -> None:
        """Disconnect. Queued batches fail."""
        self._is_closed, self._is_gathering = True, False
        self._unfollow()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=self._timeout)
        written = self._group.batches if self._group is not None else ()
        self._fail([*written, *self._queue], RedisConnectionError(CLOSED))
        if self._timer is not None:
            self._timer.cancel()
        self._drop()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed. Never waits."""
        self._is_closed = True
        self._unfollow()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()
        if self._task is not None and not self._task.done():
            abandon_task(self._task)

    def _enqueue(self, batch: Batch) -> None:
        if self._is_closed:
            raise BackendUnavailable(f"{self._address.label}: the connection has been closed")
        loop = asyncio.get_running_loop()
        batch.future, batch.began = loop.create_future(), loop.time()
        batch.deadline = batch.began + self._timeout
        self._queue.append(batch)
        self._outstanding.append(batch)
        if self._timer is None:
            self._timer = loop.call_at(batch.deadline, self._meet_deadlines, context=Context())
        if not self._is_busy:
            self._is_busy = self._is_gathering = True
            loop.call_soon(self._end_turn)
        elif self._is_gathering and len(self._queue) == AHEAD:
            self._write_ahead()

    def _write_ahead(self) -> None:
        """Write what this turn has queued so far, as the first parts of a group."""
        group, batches = self._group, self._more_of_group()
        if not batches:
            return
        self._talked = None
        try:
            self._write(batches, batches[-1].deadline)
        except Exception as error:  # noqa: BLE001 - the caller of this batch has no part in it
            if group is None:
                self._is_gathering = False
                self._start(self._serve_group(batches))
            else:
                self._end_connection(error)

    def _end_turn(self) -> None:
        """Write the next group, or the rest of one whose first parts have been written."""
        if not self._is_gathering:
            return
        self._is_gathering = False
        group = self._group
        if group is None:
            self._begin()
            return
        try:
            if batches := self._more_of_group():
                self._write(batches, batches[-1].deadline)
        except Exception as error:  # noqa: BLE001 - as above
            self._end_connection(error)
        else:
            self._limit_group(min(group.batches[-1].deadline, self._first_limit(group.batches)))
            group.close()

    def _more_of_group(self) -> list[Batch]:
        """Take batches from the queue that can be written at once with the present group, or as a new one."""
        room = MAX_BATCH - (self._group.size if self._group is not None else 0)
        is_possible = self._is_ready and not any(batch.steps or batch.proof for batch in self._queue)
        return self._next_group(room) if is_possible else []

    def _end_connection(self, error: Exception) -> None:
        if self._connection is not None:
            self._connection.end(error)

    def _begin(self) -> None:
        """Write the next group, or have the task do so."""
        outstanding = self._outstanding
        while outstanding and outstanding[0].future.done():  # an error would keep its caller in memory
            outstanding.popleft()
        group = self._next_group()
        if not group:
            self._is_busy = False
        elif self._is_ready and all(batch.proof is None for batch in group):
            self._talked = None
            try:
                self._write(group, min(group[-1].deadline, self._first_limit(group))).close()
            except Exception:  # noqa: BLE001 - the task meets and tells it
                self._start(self._serve_group(group))
        else:
            self._start(self._serve_group(group))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        context = Context()  # the one of the caller would be kept in memory with the connection
        self._task = start(work, name=TASK, context=context)
        self._task.add_done_callback(self._on_done, context=context)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if task.cancelled():
            self._fail(self._queue, RedisConnectionError(CLOSED))
            self._queue.clear()
        self._begin()

    @property
    def _is_ready(self) -> bool:
        """Whether the connection can be used, and by this user for everything."""
        connection = self._connection
        return connection is not None and self._is_fit(connection) and not self._handshake.lacking

    def _is_fit(self, connection: AsyncConnection) -> bool:
        """Whether a connection is neither lost, nor idle for long, nor to a former master."""
        idle = 0.0 if self._used_at is None else asyncio.get_running_loop().time() - self._used_at
        is_current = not connection.is_ended and not connection.master.is_left
        return is_current and idle < self._address.max_idle

    def _next_group(self, room: int = MAX_BATCH) -> list[Batch]:
        """Take batches from the queue, or one that has steps; those that were cancelled are never sent."""
        group, size = list[Batch](), 0
        now = asyncio.get_running_loop().time()
        while self._queue and size < room and not (group and (group[0].steps or self._queue[0].steps)):
            batch = self._queue.popleft()
            if batch.deadline <= now:
                self._expire(batch)
            elif not batch.commands:
                batch.settle()
            elif not batch.future.done():
                group.append(batch)
                size += len(batch.commands)
        return group

    async def _serve_group(self, group: list[Batch], *, is_read: bool = False) -> None:
        """Carry out a group; whatever fails, each batch is settled or back in the queue afterwards."""
        try:
            if not is_read:
                await self._connected(group[-1].deadline)
                self._limit_group(group[-1].deadline)
            await self._carry_out_group([batch for batch in group if not batch.future.done()], is_read)
            self._used_at = asyncio.get_running_loop().time()
        except BackendError as error:  # no connection, or one whose handshake refused this Redis
            self._drop()
            rest = self._repeat(group, is_refused=True)
            self._fail(rest, error)
            if len(rest) < len(group):
                await asyncio.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
        except BaseException as error:
            self._give_up(group, error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._group_due, self._proving = math.inf, None

    def _give_up(self, group: Sequence[Batch], error: BaseException) -> None:
        """Settle a group whose connection has failed, or put its batches back into the queue."""
        self._drop()
        if isinstance(error, FOREIGN):
            self._fail(self._repeat(group), error)
            return
        self._fail(group, RedisConnectionError(CLOSED))
        if isinstance(error, Exception):
            _log.error("%s: a bug while talking to Redis", self._address.label, exc_info=error)

    async def _connected(self, deadline: float) -> None:
        """Connect, if there is no connection, or one that is lost, idle for long, or to a former master."""
        connection = self._connection
        if connection is not None and self._is_fit(connection):
            return
        if connection is not None:
            if connection.master.is_left:  # the old one must store nothing after the new one was read
                with suppress(*FOREIGN):
                    async with asyncio.timeout(LAST_REPLIES):
                        await connection.converse(self._handshake.farewell)
            self._drop()
        async with asyncio.timeout_at(deadline):
            while not await self._connect():
                pass

    async def _connect(self) -> bool:
        """Connect; return whether no other master was named during the attempt."""
        if self._following is None:
            self._following = self._address.follow(self._on_left)
        attempt = self._attempt = asyncio.timeout(None)
        try:
            async with attempt:
                self._connection = connection = await self._address.aconnect(self._timeout)
                await self._shake_hands(connection)
        except FOREIGN as error:
            self._drop()
            if attempt.expired():
                return False
            raise self._address.failed(error) from error
        finally:
            self._attempt = None
        if connection.master.is_left:
            self._drop()
            return False
        self.generation += 1
        if self.generation > 1 and self.on_reconnect is not None:
            self.on_reconnect()
        return True

    async def _shake_hands(self, connection: AsyncConnection) -> None:
        first, *others = self._handshake.commands
        replies = [*await connection.converse([first]), *await connection.converse(others)]
        self._info = self._handshake.check(self._address.label, replies)

    async def _carry_out_group(self, group: list[Batch], is_read: bool) -> None:
        """Run batches, and settle all that are not to run again; errors of the connection are raised.

        Args:
            group: the batches.
            is_read: whether they have run, and only what comes after the first replies is left to do.
        """
        connection, asked = self._connection, len(group)
        if connection is None:
            raise RedisConnectionError(CLOSED)
        if not is_read:
            group = [batch for batch in group if self._is_possible(batch)]
            due = self._group_due
            await self._talk(group, min(due, self._first_limit(group)))
            if not connection.master.is_left:
                self._limit_group(due)
        await self._run_again(group, connection)
        while (
            any(batch.missing for batch in group if not batch.future.done()) and not connection.master.is_left
        ):
            self._extend(group[0])
            await self._talk(group, group[0].deadline)
            await self._run_again(group, connection)
        await self._prove(group, connection)
        self._conclude(group, connection.master)
        if len(group) < asked:
            self._drop()

    async def _run_again(self, group: list[Batch], connection: AsyncConnection) -> None:
        """Run scripts that Redis did not run, because it did not know them or refused them together."""
        again = [batch for batch in group if batch.runs_again]
        if not again:
            return
        if any(batch.lacks_scripts for batch in again):
            await self._shake_hands(connection)
        await self._talk(again, self._group_due)
        for batch in again:
            if batch.runs_again:
                batch.missing, batch.runs_again = (), False
                if not (batch.is_repeatable and connection.master.is_left):
                    batch.settle_answered(self._address.label)

    def _extend(self, batch: Batch) -> None:
        """Give the next step of a batch a time limit of its own."""
        self._outstanding.remove(batch)
        batch.deadline = asyncio.get_running_loop().time() + self._timeout
        self._outstanding.append(batch)

    async def _prove(self, group: list[Batch], connection: AsyncConnection) -> None:
        """Wait for the proofs that batches of a group ask for, and settle these."""
        unproven = [batch for batch in group if batch.proof is not None and not batch.future.done()]
        if not unproven or connection.master.is_left:
            return
        demands = [batch.proof.demand(batch.replies) for batch in unproven if batch.proof is not None]
        limit = min(batch.deadline for batch in unproven) - asyncio.get_running_loop().time()
        async with asyncio.timeout_at(self._group_due) as self._proving:
            failures = await prove(self._address, connection, demands, limit)
        if not connection.master.is_left:
            for batch, failure in zip(unproven, failures, strict=True):
                batch.settle(failure)

    def _conclude(self, group: Sequence[Batch], master: Master) -> None:
        """Draw conclusions about the master from the replies to a group."""
        failed = [batch for batch in group if batch.has_errors]
        if master.is_left:
            self._begin_again(group)
        elif failed and any(batch.is_misled for batch in failed) and self._address.masters is not None:
            self._address.masters.doubt()
        if any(batch.is_read_only for batch in failed):
            self._drop()

    def _begin_again(self, group: Sequence[Batch]) -> None:
        """Repeat batches that a former master answered; those that are not repeatable keep its answer."""
        for batch in self._repeat(group):
            if batch.missing:
                self._fail([batch], RedisConnectionError("another master was named"))
            elif batch.proof is not None:
                batch.settle(batch.proof.lost_master(self._address.label))
            else:
                batch.settle_answered(self._address.label)

    def _is_possible(self, batch: Batch) -> bool:
        """Whether this Redis runs the batch for this user; if not, fail it before anything is sent."""
        try:
            self._handshake.permit(self._address.label, batch.commands)
            if batch.proof is not None:
                self.check(batch.proof)
        except MesaError as error:
            self._fail([batch], error)
            return False
        return True

    def _first_limit(self, group: list[Batch]) -> float:
        """Return until when to wait on a connection that may be dead, which leaves time for another one.

        Infinite where a new connection makes a node synchronize all ids, and where a batch is not repeatable.
        """
        is_first = self._used_at is None or self.on_reconnect is not None or not group
        if is_first or not all(batch.is_repeatable for batch in group):
            return math.inf
        now = asyncio.get_running_loop().time()
        return min(batch.first_limit(now, batch.deadline) for batch in group)

    async def _talk(self, group: list[Batch], due: float) -> None:
        """Write the unsent commands of batches, and wait for the replies; for the task alone."""
        if not group:
            return
        self._talked = asyncio.get_running_loop().create_future()
        self._write(group, due).close()
        await self._talked

    def _write(self, batches: list[Batch], due: float) -> Group:
        """Write the unsent commands of batches, whose replies are due at a time; return their group."""
        connection, group = self._connection, self._group
        if connection is None:
            raise RedisConnectionError(CLOSED)
        self._limit_group(due)
        if group is None:
            group = Group(self._address.label, connection.master, self._on_read)
        commands = group.begin(batches, asyncio.get_running_loop().time())
        connection.ask(commands, group.add, self._on_end)
        self._group = group
        return group

    def _on_read(self, group: Group) -> None:
        """Go on after all replies to a group."""
        self._group = None
        if self._talked is not None:
            if not self._talked.done():
                self._talked.set_result(None)
        elif any(batch.missing for batch in group.batches):
            self._start(self._serve_group([*group.batches], is_read=True))
        else:
            self._group_due, self._used_at = math.inf, asyncio.get_running_loop().time()
            self._conclude(group.batches, group.master)
            self._begin()

    def _on_end(self, error: Exception) -> None:
        """Give up the group whose replies are outstanding: the connection has ended."""
        group, self._group = self._group, None
        if self._talked is not None:
            if not self._talked.done():
                self._talked.set_exception(error)
        elif group is not None:
            self._group_due = math.inf
            self._give_up(group.batches, error)
            if not self._is_gathering:
                self._begin()

    def _repeat(self, group: Sequence[Batch], *, is_refused: bool = False) -> list[Batch]:
        """Put repeatable batches back to the front, or only doubtful ones; return the rest of the group."""
        now, again, rest = asyncio.get_running_loop().time(), list[Batch](), list[Batch]()
        for batch in group:
            may = not batch.future.done() and now < batch.deadline and (batch.is_doubtful or not is_refused)
            (again if may and batch.repeat(now) else rest).append(batch)
        self._queue.extendleft(reversed(again))
        return rest

    def _fail(self, batches: Iterable[Batch], error: Exception) -> None:
        """Settle batches with an error, which says of each whether Redis may have run it."""
        for batch in batches:
            if isinstance(error, MesaError):
                failure, cause = batch.doubting(error), error.__cause__
            else:
                failure, cause = failed_call(self._address.label, error, maybe_sent=batch.is_written), error
            failure.__cause__ = cause
            batch.settle(failure)

    def _on_left(self) -> None:
        """End an attempt to connect, and wait only a moment for outstanding replies."""
        now = asyncio.get_running_loop().time()
        if self._attempt is not None:
            self._attempt.reschedule(now)
        elif self._group_due < math.inf and self._connection and self._connection.master.is_left:
            self._limit_group(min(self._group_due, now + LAST_REPLIES))
            if self._proving is not None:
                self._proving.reschedule(self._group_due)

    def _limit_group(self, due: float) -> None:
        """Have the connection ended at a time, unless the group that is being carried out is done by then."""
        self._group_due = due
        if self._timer is None or due < self._timer.when():
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = min(self._group_due, self._outstanding[0].deadline if self._outstanding else math.inf)
        self._timer = None
        if due < math.inf:
            self._timer = asyncio.get_running_loop().call_at(due, self._meet_deadlines, context=Context())

    def _on_time(self) -> None:
        """Fail the batches whose time is over, and end a connection that has not answered in time."""
        self._timer = None
        now, outstanding = asyncio.get_running_loop().time(), self._outstanding
        while outstanding and (outstanding[0].future.done() or outstanding[0].deadline <= now):
            batch = outstanding.popleft()
            if not batch.future.done():
                self._expire(batch)
        if self._group_due <= now:
            self._group_due = math.inf
            self._end_connection(TimeoutError())
        self._set_timer()

    def _expire(self, batch: Batch) -> None:
        problem = f"{self._address.label}: no answer within {self._timeout:g} s"
        batch.settle(BackendUnavailable(problem, maybe_sent=batch.is_written))

    def _unfollow(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.close()

    def _drop(self) -> None:
        connection, self._connection, self._used_at = self._connection, None, None
        if connection is not None:
            connection.take_back()
            connection.end()


def _call(method: "WeakMethod[Callable[[], None]]") -> None:
    """Call a method, unless its object has been collected."""
    found = method()
    if found is not None:
        found()
