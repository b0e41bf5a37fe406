"""Putting letters into queues: many in one call, for a node has many connections."""

import asyncio
from collections import deque
from typing import NamedTuple

from ...concurrency.tasks import start
from ...errors import BackendError
from ..inbox import Answer, Letter, Room
from .inbox_plan import answers, append
from .keeper import Keeper
from .plan import Seat

MAX_LETTERS = 100
"""Letters in one call."""

MAX_BYTES = 1024 * 1024
"""Bytes in one call, unless its first letter alone has more."""


class _Order(NamedTuple):
    letter: Letter
    room: Room
    answer: asyncio.Future[Answer]


class Appender:
    """Appends letters in the order in which they are given; in one event loop.

    Args:
        keeper: who keeps the lease, without which nothing is appended.
        seat: the node's calls.
    """

    def __init__(self, keeper: Keeper, seat: Seat) -> None:
        self._keeper = keeper
        self._seat = seat
        self._orders: deque[_Order] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def append(self, letter: Letter, room: Room) -> Answer:
        """Append a letter; see `Inbox.append`. Cancelling is safe; it may be appended all the same."""
        order = _Order(letter, room, asyncio.get_running_loop().create_future())
        self._orders.append(order)
        if self._worker is None:
            self._worker = start(self._work(), name="mesa-redis-appender")
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
        while self._orders and len(batch) < MAX_LETTERS:
            size += len(self._orders[0].letter.data)
            if batch and size > MAX_BYTES:
                break
            batch.append(self._orders.popleft())
        return batch

    async def _carry_out(self, batch: list[_Order]) -> None:
        call = append(self._seat, [(order.letter, order.room) for order in batch])
        try:
            (reply,) = await self._keeper.queues.run(lambda: self._keeper.execute([call]))
        except BackendError as error:
            for order in batch:
                if not order.answer.done():
                    order.answer.set_exception(error)
            return
        for order, answer in zip(batch, answers(reply), strict=True):
            if not order.answer.done():
                order.answer.set_result(answer)
