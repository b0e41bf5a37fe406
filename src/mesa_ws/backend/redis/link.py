"""One ordered connection to Redis that many tasks share.

Callers append requests and wait; one task owns the connection, writes whatever has gathered and
reads the replies in turn. So a request that is given up never leaves a reply behind for another
one to take, requests are carried out in the order in which the calls started, and it is known of
each whether it was written.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from ...errors import BackendError, BackendUnavailable
from .address import Address
from .connection import AsyncConnection, aread_reply, hang_up, is_ended_async, packed, raise_first
from .exchange import Exchange
from .failure import FOREIGN, failed_call, failed_connect
from .keys import Keys
from .plan import Command, check_handshake, handshake

MAX_BATCH = 128
"""Commands that are written at once, unless one request alone has more."""


class Link:
    """A connection that is opened when it is needed, and again after it was lost; in one event loop.

    Nothing is sent twice, except a script that Redis answered not to know: that one was not run.

    Args:
        address: where to connect.
        keys: names of the namespace.
        timeout: seconds for one request, connecting included.
    """

    def __init__(self, address: Address, keys: Keys, timeout: float) -> None:
        self._address = address
        self._keys = keys
        self._timeout = timeout
        self._connection: AsyncConnection | None = None
        self._queue: deque[_Request] = deque()
        self._owner: asyncio.Task[None] | None = None
        self._is_closed = False
        self.generation = 0
        """How many connections there were; a new one may lead to a Redis that forgot things."""

    async def execute(self, commands: Sequence[Command]) -> list[Any]:
        """Carry out `commands` in order, with no others between them.

        Cancelling is safe; they may still be carried out.

        Raises:
            BackendUnavailable: no reply within the time limit, or no connection.
            BackendRefused: Redis said no to one of them; the others were carried out.
        """
        request = self._append(commands)
        try:
            async with asyncio.timeout_at(request.deadline):
                return await request.future
        except TimeoutError:
            problem = f"{self._address.label}: no answer within {self._timeout:g} s"
            raise BackendUnavailable(problem, maybe_sent=request.exchange.is_written) from None

    def post(self, commands: Sequence[Command], on_failure: Callable[[], None]) -> None:
        """Carry out `commands` without waiting; `on_failure` is called if that failed. Never raises."""
        try:
            request = self._append(commands)
        except BackendError:
            return

        def check(done: asyncio.Future[list[Any]]) -> None:
            if not done.cancelled() and done.exception() is not None:
                on_failure()

        request.future.add_done_callback(check)

    async def aclose(self) -> None:
        """Disconnect. Requests under way fail."""
        self._is_closed = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.wait([self._owner], timeout=self._timeout)
        self._fail(self._queue, RedisConnectionError("it was closed"))
        await self._drop()

    def _append(self, commands: Sequence[Command]) -> "_Request":
        if self._is_closed:
            raise BackendUnavailable(f"{self._address.label}: the connection has been closed")
        loop = asyncio.get_running_loop()
        request = _Request(commands, loop.create_future(), loop.time() + self._timeout)
        self._queue.append(request)
        if self._owner is None or self._owner.done():
            self._owner = loop.create_task(self._serve(), name="mesa-redis-link")
        return request

    async def _serve(self) -> None:
        """Own the connection until nothing waits."""
        while batch := self._next_batch():
            await self._carry_out(batch)

    def _next_batch(self) -> list["_Request"]:
        """Take requests from the queue; those that were given up are never sent."""
        batch: list[_Request] = []
        size = 0
        while self._queue and size < MAX_BATCH:
            request = self._queue.popleft()
            if not request.future.done():
                batch.append(request)
                size += len(request.exchange.commands)
        return batch

    async def _carry_out(self, batch: list["_Request"]) -> None:
        try:
            async with asyncio.timeout_at(batch[-1].deadline):
                connection = await self._connected()
                await self._exchange(connection, [r for r in batch if not r.future.done()])
        except BackendError as error:
            self._fail(batch, error)
        except FOREIGN as error:
            await self._drop()
            self._fail(batch, error)
        except BaseException:
            await self._drop()
            self._fail(batch, RedisConnectionError("it was closed"))
            raise

    async def _connected(self) -> AsyncConnection:
        if self._connection is not None and is_ended_async(self._connection):
            await self._drop()
        if self._connection is None:
            try:
                self._connection = await self._address.aconnect(self._timeout)
                await self._shake_hands(self._connection)
            except FOREIGN as error:
                await self._drop()
                raise failed_connect(self._address.label, error) from error
            except BaseException:
                await self._drop()
                raise
            self.generation += 1
        return self._connection

    async def _shake_hands(self, connection: AsyncConnection) -> None:
        commands = handshake(self._keys)
        await connection.send_packed_command(packed(commands))
        replies = [await aread_reply(connection) for _ in commands]
        raise_first(replies)
        check_handshake(self._keys, replies)

    async def _exchange(self, connection: AsyncConnection, batch: list["_Request"]) -> None:
        await self._round(connection, batch)
        again = [request for request in batch if request.exchange.missing]
        if again:
            await self._shake_hands(connection)
            await self._round(connection, again)
            for request in again:
                request.settle(self._address.label)
        if any(request.exchange.is_read_only for request in batch):
            await self._drop()

    async def _round(self, connection: AsyncConnection, requests: list["_Request"]) -> None:
        """Write what is unsent, and settle whoever has all replies."""
        wire = packed([command for request in requests for command in request.exchange.unsent])
        for request in requests:
            request.exchange.writing()
        await connection.send_packed_command(wire)
        for request in requests:
            request.exchange.took([await aread_reply(connection) for _ in request.exchange.missing])
            if not request.exchange.missing:
                request.settle(self._address.label)

    def _fail(self, requests: Iterable["_Request"], error: Exception) -> None:
        where = self._address.label
        for request in requests:
            if isinstance(error, BackendError):
                request.fail(copy(error), error.__cause__)
            else:
                request.fail(failed_call(where, error, maybe_sent=request.exchange.is_written), error)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await hang_up(connection)


class _Request:
    """An exchange, and the future of its replies."""

    __slots__ = ("deadline", "exchange", "future")

    def __init__(
        self, commands: Sequence[Command], future: asyncio.Future[list[Any]], deadline: float
    ) -> None:
        self.exchange = Exchange(commands)
        self.future = future
        self.deadline = deadline

    def settle(self, where: str) -> None:
        failure = self.exchange.failure(where)
        if failure is not None:
            self.fail(failure, failure.__cause__)
        elif not self.future.done():
            self.future.set_result(self.exchange.replies)

    def fail(self, error: Exception, cause: BaseException | None) -> None:
        if not self.future.done():
            error.__cause__ = cause
            self.future.set_exception(error)
