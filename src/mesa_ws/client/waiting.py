"""Things that arrived and were not taken yet."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Exhausted(Exception):
    """Nothing is left, and nothing will come."""


class Waiting(Generic[Thing]):
    """An ordered queue. Who is cancelled while taking has taken nothing."""

    def __init__(self) -> None:
        self._things: deque[Thing] = deque()
        self._changed = asyncio.Event()
        self._is_closed = False

    def put(self, thing: Thing) -> None:
        """Add one thing."""
        self._things.append(thing)
        self._changed.set()

    def close(self) -> None:
        """Nothing more will come; what is here can still be taken."""
        self._is_closed = True
        self._changed.set()

    def clear(self) -> list[Thing]:
        """Take everything at once."""
        things = list(self._things)
        self._things.clear()
        return things

    async def take(self) -> Thing:
        """Wait for the oldest thing.

        Raises:
            Exhausted: nothing is left, and nothing will come.
        """
        while not self._things:
            if self._is_closed:
                raise Exhausted
            self._changed.clear()
            await self._changed.wait()
        return self._things.popleft()
