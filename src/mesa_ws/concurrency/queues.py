"""Ordered queues: one for each key, one that is handled in batches, and slots that keys take in turn.

For one event loop. The queues have a task only while there is something to do, and keep no item after it was
handled.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from .tasks import end, start, survive

Item = TypeVar("Item")
Result = TypeVar("Result")

log = logging.getLogger("mesa_ws")


class KeyedQueues(Generic[Item]):
    """Handles items of one key one after another, and those of different keys at the same time.

    Args:
        handle: handles an item. If it raises, the other items of the key are dropped. If foreign code
            cancels it, the item is handled again.
        spawn: runs the task of a key.

    Attributes:
        count: items that wait or are being handled.
        size: bytes of these items.
        tasks: one for each key that has items.
    """

    def __init__(
        self,
        handle: Callable[[Item], Awaitable[None]],
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = start,
    ) -> None:
        self._handle = handle
        self._spawn = spawn
        self._queues: dict[Hashable, deque[tuple[Item, int]]] = {}
        self.count = 0
        self.size = 0
        self.tasks: set[asyncio.Task[None]] = set()

    def put(self, key: Hashable, item: Item, size: int = 0) -> None:
        """Add an item of so many bytes behind the other items of its key."""
        self.count += 1
        self.size += size
        queue = self._queues.get(key)
        if queue is not None:
            queue.append((item, size))
            return
        queue = self._queues[key] = deque(((item, size),))
        task = self._spawn(self._work(key, queue))
        self.tasks.add(task)
        task.add_done_callback(partial(self._on_done, key, queue))

    async def drained(self) -> None:
        """Wait until every item was handled."""
        while self.tasks:
            await asyncio.wait(self.tasks)

    def cancel(self) -> None:
        """Cancel the tasks, and drop the items that were not handled."""
        for task in tuple(self.tasks):
            end(task)

    async def _work(self, key: Hashable, queue: deque[tuple[Item, int]]) -> None:
        while queue:
            try:
                await self._handle(queue[0][0])
            except asyncio.CancelledError:
                await survive()
                log.warning("a task of Mesa was cancelled by foreign code; it goes on")
                continue
            _, size = queue.popleft()
            self.count -= 1
            self.size -= size
        del self._queues[key]

    def _on_done(self, key: Hashable, queue: deque[tuple[Item, int]], task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if queue:  # the task was cancelled, or its handler raised
            del self._queues[key]
            self.count -= len(queue)
            self.size -= sum(size for _, size in queue)


class Batcher(Generic[Item, Result]):
    """Hands items over in the order in which they come, many in one call, and one call at a time.

    What comes during a call goes into the next call. For the event loop of the first call.

    Args:
        run: handles the items of a batch, and returns one result for each of them.
        most: items in one batch.
        name: name of the task.
        size_of: bytes of an item.
        max_size: bytes in one batch, unless its first item alone has more.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], Awaitable[Sequence[Result]]],
        *,
        most: int,
        name: str,
        size_of: Callable[[Item], int] | None = None,
        max_size: int = 0,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None  # to ask for it costs a system call
        self._run = run
        self._most = most
        self._name = name
        self._size_of = size_of
        self._max_size = max_size
        self._waiting: deque[tuple[Item, asyncio.Future[Result] | None]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, item: Item) -> None:
        """Hand over an item, and do not wait for its result."""
        self._put(item, None)

    def call(self, item: Item) -> "asyncio.Future[Result]":
        """Hand over an item, and return its result, or the exception with which its batch failed.

        A cancelled item may be handed over all the same.
        """
        self._loop = self._loop or asyncio.get_running_loop()
        result: asyncio.Future[Result] = self._loop.create_future()
        self._put(item, result)
        return result

    async def settled(self) -> None:
        """Wait until everything was handed over, and the last call has returned."""
        await self._idle.wait()

    async def aclose(self) -> None:
        """Cancel the call that runs. What waits is dropped, and its callers get no result."""
        self._waiting.clear()
        if self._task is not None:
            end(self._task)
            await asyncio.wait([self._task])

    def _put(self, item: Item, result: "asyncio.Future[Result] | None") -> None:
        self._waiting.append((item, result))
        if self._task is None:
            self._idle.clear()
            self._task = start(self._work(), name=self._name)

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    results = await self._run([item for item, _ in batch])
                except Exception as error:
                    if any(future is None for _, future in batch):
                        log.exception("the task %s dropped a batch", self._name)
                    for _, future in batch:
                        if future is not None and not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), result in zip(batch, results, strict=True):
                        if future is not None and not future.done():
                            future.set_result(result)
        finally:
            self._task = None
            self._idle.set()

    def _next_batch(self) -> list[tuple[Item, "asyncio.Future[Result] | None"]]:
        batch: list[tuple[Item, asyncio.Future[Result] | None]] = []
        size = 0
        while self._waiting and len(batch) < self._most:
            if self._size_of is not None:
                size += self._size_of(self._waiting[0][0])
                if batch and size > self._max_size:
                    break
            batch.append(self._waiting.popleft())
        return batch


class FairSlots:
    """A number of slots for work. Keys that wait for one have their turn one after another.

    Args:
        number: of slots.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}  # the next key is the first

    async def acquire(self, key: Hashable) -> None:
        """Take a slot, when it is the turn of the caller; `release` has to follow."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was given a slot just now
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back, or to the next one that waits."""
        while self._waiting:
            key, line = next(iter(self._waiting.items()))
            del self._waiting[key]
            turn = line.popleft()
            if line:
                self._waiting[key] = line  # behind the others
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
