"""One ordered connection to Redis that many tasks share.

Callers queue batches and wait. One task owns the connection, writes the queued batches and reads the
replies in order. So a cancelled batch never leaves its reply to another one, batches run in the order
in which the calls started, and the pipeline knows of each batch whether it was written.

When Sentinels name another master, the connection to the old one is closed as soon as its replies are
read. A repeatable batch is not answered by a master that no longer counts: it runs on the new one.

A connection that was idle for long is replaced: a firewall may have forgotten it, and would silently drop
everything that is sent on it.

When a connection breaks, repeatable batches return to the front of the queue and are written first on the
next connection, so that no other batch overtakes them. The others fail.
"""

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

from ...concurrency.event_loops import abandon_task
from ...concurrency.tasks import start
from ...errors import BackendError, BackendUnavailable, MesaError
from .address import Address
from .batch import Batch, QueuedBatch
from .command import Command, Handshake, ServerInfo
from .connection import (
    FOREIGN,
    AsyncConnection,
    abandon,
    aread_reply,
    failed_call,
    hang_up,
    is_ended_async,
    packed,
    say_farewell,
)
from .durability import Demand, Proof
from .master import Master
from .resolver import APART, MasterWatch

T = TypeVar("T")

MAX_BATCH = 128
"""Commands that are written at once, unless a single batch has more."""

LAST_REPLIES = 0.5
"""Seconds for which the replies of a master that no longer counts are still read."""

PAUSE = 0.05
"""Base delay in seconds of a retry; up to 100 % jitter is added."""

_log = logging.getLogger("mesa_ws.backend")


@dataclass(frozen=True, slots=True)
class Operation(Generic[T]):
    """Commands, and the function that reads their replies.

    Attributes:
        commands: the commands for one connection; without any, no connection is used.
        read: makes the result from the replies.
        is_repeatable: whether a second run changes nothing.
        proof: the durability to wait for afterwards.
        known_for: seconds for which it is repeatable.
    """

    commands: Sequence[Command]
    read: Callable[[Sequence[Any]], T]
    is_repeatable: bool = True
    proof: Proof | None = None
    known_for: float = math.inf

    def batch(self) -> Batch:
        """Return a batch of the commands for a runner."""
        return Batch(
            self.commands, is_repeatable=self.is_repeatable, known_for=self.known_for, proof=self.proof
        )


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
        self._queue: deque[QueuedBatch] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._following: MasterWatch | None = None
        self._attempt: asyncio.Timeout | None = None
        self._group_limit: asyncio.Timeout | None = None
        self._is_closed = False
        self.generation = 0
        """Number of connections so far."""
        self.on_reconnect: Callable[[], None] = _nothing
        """Called after every reconnection: the Redis may have lost data."""

    async def execute(
        self, commands: Sequence[Command], *, is_repeatable: bool = False, known_for: float = math.inf
    ) -> list[Any]:
        """Run `commands`; see `carry_out`, and `Batch` for the other arguments."""
        return await self.carry_out(Batch(commands, is_repeatable=is_repeatable, known_for=known_for))

    async def carry_out(self, batch: Batch) -> list[Any]:
        """Run the commands of `batch` in order, with no others between them.

        Cancelling is safe; Redis may still run them.

        Raises:
            BackendUnavailable: no reply within the time limit, or no connection.
            BackendRefused: Redis refused one of them; the others were run.
            Unsupported: this Redis cannot give the requested proof; nothing was sent.
        """
        request = self._append(batch)
        try:
            async with asyncio.timeout_at(request.deadline):
                return await request.future
        except TimeoutError:
            problem = f"{self._address.label}: no answer within {self._timeout:g} s"
            raise BackendUnavailable(problem, maybe_sent=batch.is_written) from None

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
    ) -> None:
        """Run `commands` without waiting, then call one of the functions. Never raises."""
        try:
            request = self._append(Batch(commands))
        except BackendError:
            return

        def check(done: asyncio.Future[list[Any]]) -> None:
            if done.cancelled():
                return
            if done.exception() is not None:
                on_failure()
            elif on_replies is not None:
                on_replies(done.result())

        request.future.add_done_callback(check)

    async def aclose(self) -> None:
        """Disconnect. Queued batches fail."""
        self._is_closed = True
        self._unfollow()
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner], timeout=self._timeout)
        self._fail(self._queue, RedisConnectionError("the connection was closed by this process"))
        await self._drop()

    def abandon(self) -> None:
        """Close the connection after the event loop was closed. Never waits."""
        self._is_closed = True
        self._unfollow()
        connection, self._connection = self._connection, None
        if connection is not None:
            abandon(connection)
        if self._owner is not None and not self._owner.done():
            abandon_task(self._owner)

    def _append(self, batch: Batch) -> QueuedBatch:
        if self._is_closed:
            raise BackendUnavailable(f"{self._address.label}: the connection has been closed")
        loop = asyncio.get_running_loop()
        request = QueuedBatch(batch, loop.create_future(), loop.time() + self._timeout)
        self._queue.append(request)
        self._ensure_owner()
        return request

    def _ensure_owner(self) -> None:
        if self._queue and not self._is_closed and (self._owner is None or self._owner.done()):
            self._owner = start(self._serve(), name="mesa-redis-pipeline")
            self._owner.add_done_callback(self._on_owner_done)

    def _on_owner_done(self, owner: asyncio.Task[None]) -> None:
        """Start another owner for batches that were queued while this one ended, or failed."""
        if owner.cancelled():
            self._fail(self._queue, RedisConnectionError("the connection was closed by this process"))
            self._queue.clear()
        else:
            self._ensure_owner()

    async def _serve(self) -> None:
        """Own the connection until the queue is empty."""
        while group := self._next_group():
            await self._talk(group)

    def _next_group(self) -> list[QueuedBatch]:
        """Take batches from the queue; those that were cancelled are never sent."""
        now = asyncio.get_running_loop().time()
        group: list[QueuedBatch] = []
        size = 0
        while self._queue and size < MAX_BATCH:
            request = self._queue.popleft()
            if request.deadline <= now:
                self._fail([request], TimeoutError())
            elif not request.future.done():
                group.append(request)
                size += len(request.batch.commands)
        return group

    async def _talk(self, group: list[QueuedBatch]) -> None:
        try:
            async with asyncio.timeout_at(group[-1].deadline) as self._group_limit:
                connection = await self._connected()
                await self._carry_out_group(connection, [r for r in group if not r.future.done()])
            self._used_at = asyncio.get_running_loop().time()
        except BackendError as error:  # there was no connection
            rest = self._repeat(group, [r for r in group if r.batch.is_doubtful])
            self._fail(rest, error)
            if len(rest) < len(group):
                await asyncio.sleep(PAUSE * random.uniform(1, 2))  # noqa: S311
        except FOREIGN as error:
            await self._drop()
            self._fail(self._repeat(group, group), error)
        except BaseException as error:
            await self._drop()
            self._fail(group, RedisConnectionError("the connection was closed by this process"))
            if not isinstance(error, Exception):
                raise
            _log.exception("%s: a bug while talking to Redis", self._address.label)
        finally:
            self._group_limit = None

    def _repeat(self, group: list[QueuedBatch], wanted: Iterable[QueuedBatch]) -> list[QueuedBatch]:
        """Put the repeatable ones of `wanted` back to the front; return the rest of the group."""
        now = asyncio.get_running_loop().time()
        again = {
            request: None
            for request in wanted
            if not request.future.done() and now < request.deadline and request.batch.repeat(now)
        }
        self._queue.extendleft(reversed(again))
        return [request for request in group if request not in again]

    async def _connected(self) -> AsyncConnection:
        connection = self._connection
        if connection is not None and self._is_unfit(connection):
            if connection.mesa_master.is_left:  # the old one must store nothing after the new one was read
                await say_farewell(connection, self._handshake.farewell, LAST_REPLIES)
            await self._drop()
            connection = None
        while connection is None:
            connection = await self._connect()
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
            await self._drop()
            if attempt.expired():
                return None
            raise self._address.failed(error) from error
        except BaseException:
            await self._drop()
            raise
        finally:
            self._attempt = None
        if connection.mesa_master.is_left:
            await self._drop()
            return None
        self.generation += 1
        if self.generation > 1:
            self.on_reconnect()
        return connection

    def _is_unfit(self, connection: AsyncConnection) -> bool:
        return connection.mesa_master.is_left or is_ended_async(connection) or self._was_idle()

    def _on_left(self) -> None:
        """End an attempt to connect, and wait only a moment for outstanding replies."""
        now = asyncio.get_running_loop().time()
        if self._attempt is not None:
            self._attempt.reschedule(now)
        elif self._group_limit is not None and self._connection and self._connection.mesa_master.is_left:
            self._group_limit.reschedule(min(self._group_limit.when() or now, now + LAST_REPLIES))

    def _unfollow(self) -> None:
        following, self._following = self._following, None
        if following is not None:
            following.close()

    def _was_idle(self) -> bool:
        now = asyncio.get_running_loop().time()
        return self._used_at is not None and now - self._used_at >= self._address.max_idle

    async def _shake_hands(self, connection: AsyncConnection) -> None:
        commands = self._handshake.commands
        await connection.send_packed_command(packed(commands))
        replies = [await aread_reply(connection) for _ in commands]
        self._info = self._handshake.check(self._address.label, replies)

    async def _carry_out_group(self, connection: AsyncConnection, group: list[QueuedBatch]) -> None:
        asked = len(group)
        group = [request for request in group if self._is_possible(request)]
        async with asyncio.timeout_at(self._first_limit(group)):
            await self._round(connection, group)
        again = [request for request in group if request.batch.missing]
        if again:
            await self._shake_hands(connection)
            await self._round(connection, again)
            for request in again:
                request.batch.missing.clear()
                self._settle(request, connection.mesa_master)
        if not connection.mesa_master.is_left:
            await prove(
                self._address, connection, [request for request in group if not request.future.done()]
            )
        if connection.mesa_master.is_left:
            self._begin_again(group)
        elif any(request.batch.is_misled for request in group):
            self._doubt_master()
        if len(group) < asked or any(request.batch.is_read_only for request in group):
            await self._drop()

    def _doubt_master(self) -> None:
        masters = self._address.masters
        if masters is not None:
            masters.doubt()

    def _begin_again(self, group: list[QueuedBatch]) -> None:
        """Repeat batches that a former master answered; those that are not repeatable keep its answer."""
        for request in self._repeat(group, group):
            if request.batch.proof is not None:
                request.fail(request.batch.proof.lost_master(self._address.label), None)
            else:
                self._hand_out(request)

    def _is_possible(self, request: QueuedBatch) -> bool:
        """Whether this Redis runs the batch for this user; if not, fail it before anything is sent."""
        where, batch = self._address.label, request.batch
        try:
            self._handshake.permit(where, batch.commands)
            if batch.proof is not None:
                batch.proof.check(where, self._info)
        except MesaError as error:
            request.fail(error, None)
            return False
        return True

    def _first_limit(self, group: list[QueuedBatch]) -> float | None:
        """Return until when to wait on a connection that may be dead, which leaves time for another one.

        None, for no such limit, where a new connection makes a node synchronize all of its ids, and
        where a batch of the group is not repeatable and would lose its time.
        """
        if self._used_at is None or self.on_reconnect is not _nothing or not group:
            return None
        if not all(request.batch.is_repeatable for request in group):
            return None
        now = asyncio.get_running_loop().time()
        return min(request.batch.first_limit(now, request.deadline) for request in group)

    async def _round(self, connection: AsyncConnection, requests: list[QueuedBatch]) -> None:
        """Write the unsent commands, and settle the batches that have all their replies."""
        wire = packed([command for request in requests for command in request.batch.unsent])
        now = asyncio.get_running_loop().time()
        for request in requests:
            request.batch.on_write(now)
        await connection.send_packed_command(wire)
        for request in requests:
            request.batch.on_replies([await aread_reply(connection) for _ in request.batch.missing])
            if not request.batch.missing:
                self._settle(request, connection.mesa_master)

    def _settle(self, request: QueuedBatch, master: Master) -> None:
        """Resolve a batch, unless it waits for a proof or has to run on another master."""
        if master.is_left and request.batch.is_repeatable:
            return
        self._hand_out(request)

    def _hand_out(self, request: QueuedBatch) -> None:
        failure = request.batch.failure(self._address.label)
        if failure is not None:
            request.fail(failure, failure.__cause__)
        elif request.batch.proof is None:
            request.succeed()

    def _fail(self, requests: Iterable[QueuedBatch], error: Exception) -> None:
        where = self._address.label
        for request in requests:
            if isinstance(error, BackendError):
                request.fail(request.batch.doubting(error), error.__cause__)
            else:
                request.fail(failed_call(where, error, maybe_sent=request.batch.is_written), error)

    async def _drop(self) -> None:
        connection, self._connection, self._used_at = self._connection, None, None
        if connection is not None:
            await hang_up(connection)


async def prove(address: Address, connection: AsyncConnection, requests: Collection[QueuedBatch]) -> None:
    """Wait for the durability that batches ask for, on the connection that ran them, and answer them.

    If another master counts by then, they stay unanswered.
    """
    demands = [(r, r.batch.proof.demand(r.batch.replies)) for r in requests if r.batch.proof]
    if not demands:
        return
    asked = Demand.of([demand for _, demand in demands])
    due = connection.mesa_master.due(asked.replicas, time.monotonic())
    limit = min(request.deadline for request in requests) - asyncio.get_running_loop().time()
    commands = asked.commands(limit)
    await connection.send_packed_command(packed(commands))
    replies = [await aread_reply(connection) for _ in commands]
    failures = [demand.shortfall(address.label, asked, replies) for _, demand in demands]
    is_sure = due is None or all(failures) or await _hold(address, due, limit)
    if connection.mesa_master.is_left:
        return
    for (request, demand), shortfall in zip(demands, failures, strict=True):
        failure = shortfall or (demand.unsure(address.label) if demand.replicas and not is_sure else None)
        request.fail(failure, None) if failure else request.succeed()


async def _hold(address: Address, due: float, limit: float) -> bool:
    """Hold back confirmations of fewer replicas than before; return whether they count. See `Copies`."""
    await asyncio.sleep(due - time.monotonic())
    now = time.monotonic()
    masters = address.masters
    return masters is not None and await masters.aconfirm(max(due, now - APART), now + limit)


def _nothing() -> None:
    """Default `on_reconnect`, for pipelines whose users keep nothing in Redis."""


class Pipelines:
    """Two ordered connections of one event loop, opened when they are needed.

    An operation that waits for a proof of durability blocks those that follow on its connection, so such
    operations have a connection of their own. Order is kept within each of the two.

    Args:
        address: where to connect.
        handshake: first commands of every connection.
        timeout: seconds for one operation, connecting included.
    """

    def __init__(self, address: Address, handshake: Handshake, timeout: float) -> None:
        self.main = Pipeline(address, handshake, timeout)
        self.durable = Pipeline(address, handshake, timeout)

    async def run(self, operation: Operation[T]) -> T:
        """Run `operation`; see `Pipeline.execute`. Without commands it needs no connection."""
        pipeline = self.durable if operation.proof else self.main
        return operation.read(await pipeline.carry_out(operation.batch()) if operation.commands else [])

    async def aclose(self) -> None:
        """Disconnect both."""
        await self.main.aclose()
        await self.durable.aclose()

    def abandon(self) -> None:
        """Close both after the event loop was closed. Never waits."""
        self.main.abandon()
        self.durable.abandon()
