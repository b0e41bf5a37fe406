"""Reading once what many want at the same time, such as all clients of a node that has died."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..backend.outbox import Page
from ..position import Position


class SharedReads:
    """Reads pages for whoever asks, equal ones once. For the event loop only.

    Who joins a read that is under way may get a page from before it asked.

    Args:
        source: reads what follows a position.
        spawn: runs the work.
    """

    def __init__(
        self,
        source: Callable[[Position | None], Coroutine[Any, Any, Page]],
        spawn: Callable[[Coroutine[Any, Any, Page]], asyncio.Task[Page]],
    ) -> None:
        self._source = source
        self._spawn = spawn
        self._under_way: dict[Position | None, asyncio.Task[Page]] = {}

    async def read(self, position: Position | None) -> Page:
        """Read what follows `position`. Cancelling takes it from nobody else.

        Raises:
            BackendError: the source did not answer.
        """
        reading = self._under_way.get(position)
        if reading is None:
            reading = self._under_way[position] = self._spawn(self._source(position))
            reading.add_done_callback(lambda _: self._under_way.pop(position, None))
        return await asyncio.shield(reading)
