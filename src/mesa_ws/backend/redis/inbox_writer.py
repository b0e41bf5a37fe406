"""Writer of events into portal queues, many in one call, since a node has many connections."""

import asyncio
from collections import deque
from typing import Any, NamedTuple

from ...concurrency.tasks import start
from ...errors import BackendError, BackendRefused, Unsupported
from ...settings import Durability
from ..inbox import AppendResult, Capacity, InboxEvent
from ..redis_client.command import Call
from .aio import Pipelines
from .inbox_commands import answers, append, proof
from .lease import LeaseKeeper
from .node_commands import NodeCommands

MAX_EVENTS = 100
"""Events in one call."""

MAX_BYTES = 1024 * 1024
"""Bytes in one call, unless its first event alone has more."""


class _Order(NamedTuple):
    event: InboxEvent
    capacity: Capacity
    answer: asyncio.Future[AppendResult]


class InboxWriter:
    """Appends events in the order of the calls; in one event loop.

    Events that have to reach replicas or the disk go over the connection for durable operations, so that
    they block nothing else. Events that arrive during one call go together in the next.

    Args:
        keeper: keeper of the lease, without which nothing is appended.
        commands: commands of the node.
        pipelines: connections to Redis.
        durability: durability that events have to reach before they count as taken.
    """

    def __init__(
        self, keeper: LeaseKeeper, commands: NodeCommands, pipelines: Pipelines, durability: Durability
    ) -> None:
        self._keeper = keeper
        self._commands = commands
        self._pipelines = pipelines
        self._durability = durability
        self._proof = proof(durability)
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None

    def check(self) -> None:
        """Check that this Redis, which is connected, can make events as durable as they have to be.

        Raises:
            Unsupported: it cannot.
        """
        if self._proof is not None:
            self._pipelines.main.check(self._proof)

    async def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Append an event; see `Inbox.append`. Cancelling is safe; the event may still be appended."""
        order = _Order(event, capacity, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        if self._worker is None:
            self._worker = start(self._work(), name="mesa-redis-inbox")
        return await order.answer

    async def _work(self) -> None:
        try:
            while batch := self._next_batch():
                await self._carry_out(batch)
        finally:
            self._worker = None

    def _next_batch(self) -> list[_Order]:
        batch: list[_Order] = []
        size = 0
        while self._orders and len(batch) < MAX_EVENTS:
            size += len(self._orders[0].event.data)
            if batch and size > MAX_BYTES:
                break
            batch.append(self._orders.popleft())
        return batch

    async def _carry_out(self, batch: list[_Order]) -> None:
        call = append(self._commands, [(order.event, order.capacity) for order in batch], self._durability)
        try:
            (reply,) = await self._keeper.queues.run(lambda: self._execute(call))
        except BackendError as error:
            _refuse(batch, error)
            return
        except Unsupported as error:  # another Redis took over, which cannot do this
            _refuse(batch, BackendRefused(str(error)))
            return
        for order, answer in zip(batch, answers(reply), strict=True):
            if not order.answer.done():
                order.answer.set_result(answer)

    async def _execute(self, call: Call) -> list[Any]:
        pipeline = self._pipelines.main if self._proof is None else self._pipelines.durable
        return await self._keeper.execute([call], pipeline, self._proof)


def _refuse(batch: list[_Order], error: BackendError) -> None:
    for order in batch:
        if not order.answer.done():
            order.answer.set_exception(error)
