"""One ordered connection to Redis that many tasks share.

Callers queue batches and wait. One task owns the connection, writes the queued batches and reads the
replies in order. So a cancelled batch never leaves its reply to another one, batches run in the order
in which the calls started, and the pipeline knows of each batch whether it was written.
So the way of a batch is `carry_out`, `_serve`, `_write_and_read`, `settle`; errors end in `_serve_group`.

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
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from copy import copy
from typing import Any, Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError

from ...concurrency.event_loops import abandon_task
from ...concurrency.tasks import start
from ...errors import BackendError, BackendUnavailable, MesaError
from .address import Address
from .command import CallMeter, Command, Handshake, ServerInfo
from .connection import AsyncConnection, packed
from .durability import Proof, prove
from .failures import FOREIGN, failed_call, failed_reply, is_of_no_master, is_partial
from .resolver import MasterWatch

T = TypeVar("T")

MAX_BATCH = 128
"""Commands that are written at once, unless a single batch has more."""

LAST_REPLIES = 0.5
"""Seconds for which the replies of a master that no longer counts are still read."""

PAUSE = 0.05
"""Base delay in seconds of a retry; up to 100 % jitter is added."""

CLOSED = "the connection was closed by this process"

OWNER = "mesa-redis-pipeline"
"""Name of the task that owns the connection."""

_log = logging.getLogger("mesa_ws.backend")


class Batch:
    """Commands that are written together, and their replies.

    A runner calls `on_write`, writes `unsent`, passes the replies to `on_replies`, and starts again
    while something is `missing`: Redis did not run a script that it did not know, so only that one is
    sent twice. A repeatable batch may also be sent again from the start after its connection broke.

    Args:
        commands: the commands, in order.
        is_repeatable: whether a second run changes nothing.
        known_for: seconds for which that holds. The batch is repeated only in the first half of this
            time, since written bytes may take a while to arrive.
        proof: the durability to ask for afterwards, on the same connection.

    Attributes:
        replies: the replies, including errors of Redis.
        missing: positions of commands that Redis has not run yet.
        has_errors: whether Redis ever replied with an error.
        is_doubtful: whether the batch is being repeated because the outcome of its first run is unknown.
        future: of the replies or a `BackendError`, once the batch is in the queue of a pipeline.
        deadline: of that future, by the clock of its event loop.
    """

    __slots__ = (
        "_is_written", "_known_for", "_written_at", "commands", "deadline", "future", "has_errors",
        "is_doubtful", "is_repeatable", "missing", "proof", "replies",
    )  # fmt: skip

    future: asyncio.Future[list[Any]]
    deadline: float

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        is_repeatable: bool = False,
        known_for: float = math.inf,
        proof: Proof | None = None,
    ) -> None:
        self.commands = commands
        self.is_repeatable = is_repeatable
        self.proof = proof
        self.replies: list[Any] = [None] * len(commands)
        self.missing: Sequence[int] = range(len(commands))
        self.has_errors = self.is_doubtful = self._is_written = False
        self._known_for = known_for
        self._written_at: float | None = None

    @property
    def unsent(self) -> Sequence[Command]:
        """The commands to write."""
        return [self.commands[at] for at in self.missing]

    @property
    def is_written(self) -> bool:
        """Whether Redis may have run any of the commands."""
        return self._is_written or self.is_doubtful

    @property
    def is_read_only(self) -> bool:
        """Whether this Redis is a replica, so that another one has to run the commands."""
        return any(isinstance(reply, ReadOnlyError) for reply in self.replies)

    @property
    def is_misled(self) -> bool:
        """Whether the replies suggest that this Redis is not the master."""
        return any(map(is_of_no_master, self.replies))

    def first_limit(self, now: float, deadline: float) -> float:
        """Return until when to wait on a connection that may be dead, which leaves time for another one."""
        return now + min((deadline - now) / 2, self._known_for / 4) if self.is_repeatable else deadline

    def on_write(self, now: float) -> None:
        """Note that the commands are about to be written: from now on Redis may run them."""
        self._is_written = True
        if self._written_at is None:
            self._written_at = now

    def on_replies(self, replies: Sequence[Any]) -> None:
        """Store the replies to `unsent`."""
        missing = list[int]()
        for at, reply in zip(self.missing, replies, strict=True):
            self.replies[at] = reply
            if isinstance(reply, RedisError):
                self.has_errors = True
                if isinstance(reply, NoScriptError):
                    missing.append(at)
        self.missing = missing
        self._is_written = len(missing) < len(self.commands)

    def repeat(self, now: float) -> bool:
        """Reset the batch for another connection; return whether a repeat is safe."""
        if not (self.is_repeatable and self.is_written) or self._written_at is None:
            return False
        if now - self._written_at > self._known_for / 2:
            return False
        self.is_doubtful, self._is_written = True, False
        self.replies = [None] * len(self.commands)
        self.missing = range(len(self.commands))
        return True

    @property
    def is_part_done(self) -> bool:
        """Whether Redis may have run a command: it did not refuse all, or a run before had no outcome."""
        done = (not isinstance(reply, RedisError) or is_partial(reply) for reply in self.replies)
        return self.is_doubtful or (self._is_written and any(done))

    def doubting(self, error: MesaError) -> MesaError:
        """Return a copy of the error that stopped the batch, which says if a part may have been done."""
        if getattr(error, "maybe_sent", False) or not self.is_part_done:
            return copy(error)
        return BackendUnavailable(getattr(error, "problem", str(error)), maybe_sent=True)

    def failure(self, where: str) -> BackendError | None:
        """Return the first error among the replies as a `BackendError` with its cause; None without."""
        failed = [reply for reply in self.replies if isinstance(reply, RedisError)]
        if not failed:
            return None
        error = failed_reply(where, failed[0])
        error.maybe_sent = self.is_part_done
        error.__cause__ = failed[0]
        return error

    def settle(self, error: Exception | None = None) -> None:
        """Resolve the future with the replies, or with an error that has its cause."""
        if self.future.done():
            return
        if error is None:
            self.future.set_result(self.replies)
        else:
            self.future.set_exception(error)


class Operation(Batch, Generic[T]):
    """A batch, and the function `read` that makes the result from its replies; it runs once.

    Without commands, no connection is used.
    """

    __slots__ = ("read",)

    def __init__(
        self,
        commands: Sequence[Command],
        read: Callable[[Sequence[Any]], T],
        is_repeatable: bool = True,
        proof: Proof | None = None,
        known_for: float = math.inf,
    ) -> None:
        super().__init__(commands, is_repeatable=is_repeatable, known_for=known_for, proof=proof)
        self.read = read


class Pipeline:
    """A connection that is opened when it is needed, and reopened after it was lost; in one event loop.

    Nothing is sent twice, except repeatable batches, and scripts that Redis did not know and therefore
    did not run.

    Args:
        address: where to connect.
        handshake: first commands of every connection.
        timeout: seconds for one batch, connecting included.
    """

    def __init__(self, address: Address, handshake: Handshake, timeout: float) -> None:
        self._address = address
        self._handshake = handshake
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._info = ServerInfo()
        self._used_at: float | None = None
        self._queue: deque[Batch] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None
        self._following: MasterWatch | None = None
        self._attempt: asyncio.Timeout | None = None
        self._proving: asyncio.Timeout | None = None
        self._outstanding: deque[Batch] = deque()  # by their deadlines; those that are done go first
        self._group_due = math.inf
        self._timer: asyncio.TimerHandle | None = None
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
        return await self.carry_out(batch)

    async def carry_out(self, batch: Batch) -> list[Any]:
        """Run the commands of `batch` in order, with no others between them.

        Cancelling is safe; Redis may still run them.

        Raises:
            BackendUnavailable: no reply within the time limit, or no connection.
            BackendRefused: Redis refused one of them; the others were run.
            Unsupported: this Redis cannot give the requested proof; nothing was sent.
        """
        self._enqueue(batch)
        try:
            return await batch.future
        finally:
            self.meter.add(batch.future, batch.deadline - self._timeout)

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
        self._is_closed = True
        self._unfollow()
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner], timeout=self._timeout)
        self._fail(self._queue, RedisConnectionError(CLOSED))
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
        if self._owner is not None and not self._owner.done():
            abandon_task(self._owner)

    def _enqueue(self, batch: Batch) -> None:
        if self._is_closed:
            raise BackendUnavailable(f"{self._address.label}: the connection has been closed")
        loop = asyncio.get_running_loop()
        batch.future, batch.deadline = loop.create_future(), loop.time() + self._timeout
        self._queue.append(batch)
        outstanding = self._outstanding
        while outstanding and outstanding[0].future.done():
            outstanding.popleft()
        outstanding.append(batch)
        if self._timer is None:
            self._timer = loop.call_at(batch.deadline, self._on_time)
        if self._wake is None:
            self._ensure_owner()
        elif not self._wake.done():
            self._wake.set_result(None)

    def _ensure_owner(self) -> None:
        if self._queue and not self._is_closed and (self._owner is None or self._owner.done()):
            context = Context()  # the one of the caller would be kept in memory with the connection
            owner: Any = start(self._serve(), name=OWNER, context=context)
            owner._log_destroy_pending = False  # it may be idle when it is collected with its pipeline
            owner.add_done_callback(self._on_owner_done, context=context)
            self._owner = owner

    def _on_owner_done(self, owner: asyncio.Task[None]) -> None:
        """Start another owner for batches that were queued while this one ended, or failed."""
        wake, self._wake = self._wake, None
        if owner.cancelled() and wake is None:
            self._fail(self._queue, RedisConnectionError(CLOSED))
            self._queue.clear()
        else:
            self._ensure_owner()

    async def _serve(self) -> None:
        """Own the connection; wait while the queue is empty."""
        while True:
            if not self._queue:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
            self._wake = None
            await self._serve_group(self._next_group())  # a local variable would keep the group while idle

    def _next_group(self) -> list[Batch]:
        """Take batches from the queue; those that were cancelled are never sent."""
        group, size = list[Batch](), 0
        now = asyncio.get_running_loop().time()
        while self._queue and size < MAX_BATCH:
            batch = self._queue.popleft()
            if batch.deadline <= now:
                self._expire(batch)
            elif not batch.future.done():
                group.append(batch)
                size += len(batch.commands)
        return group

    async def _serve_group(self, group: list[Batch]) -> None:
        """Carry out a group; whatever fails, each batch is settled or back in the queue afterwards."""
        if not group:
            return
        try:
            connection = await self._connected(group[-1].deadline)
            self._limit_group(group[-1].deadline)
            await self._carry_out_group(connection, [batch for batch in group if not batch.future.done()])
            self._used_at = asyncio.get_running_loop().time()
        except BackendError as error:  # no connection, or one whose handshake refused this Redis
            self._drop()
            rest = self._repeat(group, is_refused=True)
            self._fail(rest, error)
            if len(rest) < len(group):
                await asyncio.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
        except FOREIGN as error:
            self._drop()
            self._fail(self._repeat(group), error)
        except BaseException as error:
            self._drop()
            self._fail(group, RedisConnectionError(CLOSED))
            if not isinstance(error, Exception):
                raise
            _log.exception("%s: a bug while talking to Redis", self._address.label)
        finally:
            self._group_due, self._proving = math.inf, None

    async def _connected(self, deadline: float) -> AsyncConnection:
        """Return the present connection, or a new one if it is lost, idle for long, or to a former master."""
        connection = self._connection
        if connection is not None:
            idle = 0.0 if self._used_at is None else asyncio.get_running_loop().time() - self._used_at
            if connection.master.is_left:  # the old one must store nothing after the new one was read
                with suppress(*FOREIGN):
                    async with asyncio.timeout(LAST_REPLIES):
                        await connection.converse(self._handshake.farewell)
            elif idle < self._address.max_idle and not connection.is_ended:
                return connection
            self._drop()
        async with asyncio.timeout_at(deadline):
            while (connection := await self._connect()) is None:
                pass
        return connection

    async def _connect(self) -> AsyncConnection | None:
        """Connect; return None if Sentinels named another master during the attempt."""
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
                return None
            raise self._address.failed(error) from error
        finally:
            self._attempt = None
        if connection.master.is_left:
            self._drop()
            return None
        self.generation += 1
        if self.generation > 1 and self.on_reconnect is not None:
            self.on_reconnect()
        return connection

    async def _shake_hands(self, connection: AsyncConnection) -> None:
        first, *others = self._handshake.commands
        replies = [*await connection.converse([first]), *await connection.converse(others)]
        self._info = self._handshake.check(self._address.label, replies)

    async def _carry_out_group(self, connection: AsyncConnection, group: list[Batch]) -> None:
        """Run batches, and settle all that are not to run again; errors of the connection are raised."""
        asked, master = len(group), connection.master
        if self._handshake.lacking or any(batch.proof is not None for batch in group):
            group = [batch for batch in group if self._is_possible(batch)]
        due = self._group_due
        self._limit_group(min(due, self._first_limit(group)))
        await self._write_and_read(connection, group)
        if not master.is_left:
            self._limit_group(due)
        again = [batch for batch in group if batch.missing]
        if again:
            await self._shake_hands(connection)
            await self._write_and_read(connection, again, is_last=True)
        unproven = [batch for batch in group if batch.proof is not None and not batch.future.done()]
        if unproven and not master.is_left:
            demands = [batch.proof.demand(batch.replies) for batch in unproven if batch.proof is not None]
            limit = min(batch.deadline for batch in unproven) - asyncio.get_running_loop().time()
            async with asyncio.timeout_at(self._group_due) as self._proving:
                failures = await prove(self._address, connection, demands, limit)
            if not master.is_left:
                for batch, failure in zip(unproven, failures, strict=True):
                    batch.settle(failure)
        failed = [batch for batch in group if batch.has_errors]
        if master.is_left:
            self._begin_again(group)
        elif failed and any(batch.is_misled for batch in failed) and self._address.masters is not None:
            self._address.masters.doubt()
        if len(group) < asked or any(batch.is_read_only for batch in failed):
            self._drop()

    def _begin_again(self, group: list[Batch]) -> None:
        """Repeat batches that a former master answered; those that are not repeatable keep its answer."""
        for batch in self._repeat(group):
            if batch.proof is not None:
                batch.settle(batch.proof.lost_master(self._address.label))
            else:
                self._hand_out(batch)

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

        Infinite where a new connection makes a node synchronize all of its ids, and
        where a batch of the group is not repeatable and would lose its time.
        """
        is_first = self._used_at is None or self.on_reconnect is not None or not group
        if is_first or not all(batch.is_repeatable for batch in group):
            return math.inf
        now = asyncio.get_running_loop().time()
        return min(batch.first_limit(now, batch.deadline) for batch in group)

    async def _write_and_read(
        self, connection: AsyncConnection, batches: list[Batch], *, is_last: bool = False
    ) -> None:
        """Write the unsent commands, and settle the batches that have all their replies."""
        now = asyncio.get_running_loop().time()
        for batch in batches:
            batch.on_write(now)
        await connection.write(packed(each for batch in batches for each in batch.unsent))
        for batch in batches:
            batch.on_replies(await connection.read(len(batch.missing)))
            if is_last:
                batch.missing = ()
            if not batch.missing and not (batch.is_repeatable and connection.master.is_left):
                self._hand_out(batch)

    def _hand_out(self, batch: Batch) -> None:
        """Settle a batch, unless it waits for a proof."""
        failure = batch.failure(self._address.label) if batch.has_errors else None
        if failure is not None or batch.proof is None:
            batch.settle(failure)

    def _repeat(self, group: list[Batch], *, is_refused: bool = False) -> list[Batch]:
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
        is_set = due < math.inf
        self._timer = asyncio.get_running_loop().call_at(due, self._on_time) if is_set else None

    def _on_time(self) -> None:
        """Fail the batches whose time is over, and end a connection that has not answered in time."""
        self._timer = None
        now, outstanding = asyncio.get_running_loop().time(), self._outstanding
        while outstanding and (outstanding[0].future.done() or outstanding[0].deadline <= now):
            self._expire(outstanding.popleft())
        if self._group_due <= now:
            self._group_due = math.inf
            if self._connection is not None:
                self._connection.end(TimeoutError())
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
            connection.end()


class Pipelines:
    """Three pipelines with the same arguments, in one event loop; each keeps the order within it.

    Those that wait for a proof of durability block what follows; heartbeats must not be blocked.
    """

    def __init__(self, address: Address, handshake: Handshake, timeout: float) -> None:
        self._all = tuple(Pipeline(address, handshake, timeout) for _ in range(3))
        self.main, self.durable, self.heart = self._all
        self.durable.meter = self.heart.meter = self.main.meter

    async def run(self, operation: Operation[T]) -> T:
        """Run `operation`; see `Pipeline.execute`. Without commands it needs no connection."""
        pipeline = self.main if operation.proof is None else self.durable
        return operation.read(await pipeline.carry_out(operation) if operation.commands else [])

    async def aclose(self) -> None:
        """Disconnect all."""
        for each in self._all:
            await each.aclose()

    def abandon(self) -> None:
        """Close all after the event loop was closed. Never waits."""
        for each in self._all:
            each.abandon()
