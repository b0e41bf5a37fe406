"""Deadlines of very many owners, such as connections, with one timer of the event loop for all of them.

A timer for each would take memory, and objects for the garbage collector to look at. Deadlines that are near
each other are met together, up to `WIDTH` late; if they are very many, in slices.
"""

import asyncio
from typing import Protocol

from .turns import TURN

WIDTH = 0.05
"""Seconds of the deadlines that are met together."""


class Ticking(Protocol):
    """Owner of a deadline."""

    def tick(self) -> None:
        """Do what is due."""


class Deadlines:
    """Calls `tick` of each owner at its deadline. For the event loop only."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Ticking]] = {}
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def put(self, owner: Ticking, due: float) -> int:
        """Call `tick` of an owner once, at `due` of the event loop's time; return what `drop` needs."""
        slot = int(due / WIDTH) + 1
        self._slots.setdefault(slot, set()).add(owner)
        if self._timer is None or slot < self._next:
            self._wait()
        return slot

    def drop(self, owner: Ticking, slot: int) -> None:
        """Take a deadline back that `put` returned, unless it has been met."""
        owners = self._slots.get(slot)
        if owners is not None:
            owners.discard(owner)

    def close(self) -> None:
        """Forget all deadlines."""
        self._slots.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._slots:
            self._next = min(self._slots)
            self._timer = asyncio.get_running_loop().call_at(self._next * WIDTH, self._meet)

    def _meet(self) -> None:
        """Meet deadlines for a slice of time; others that are due are met in the next turn of the loop."""
        clock = asyncio.get_running_loop().time
        now = clock()
        until = now + TURN
        try:
            for slot in sorted(slot for slot in self._slots if slot * WIDTH <= now):
                owners = self._slots[slot]
                while owners:
                    owners.pop().tick()
                    if clock() >= until:
                        return
                del self._slots[slot]
        finally:
            self._wait()
