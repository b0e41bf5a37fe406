"""When to look at things again, to the minute."""

import heapq
from typing import Generic, TypeVar

K = TypeVar("K")

GRAIN = 60.0
"""Seconds: nothing is due early, and nothing is due later than this."""


class Timetable(Generic[K]):
    """Keys that become due, each at one time. Every step is constant in time, but for a heap of
    the minutes that are in use.
    """

    def __init__(self) -> None:
        self._minute_of: dict[K, int] = {}
        self._keys_of: dict[int, dict[K, None]] = {}
        self._minutes: list[int] = []

    def __len__(self) -> int:
        return len(self._minute_of)

    def put(self, key: K, when: float) -> None:
        """Make `key` due at `when`, and at no other time."""
        self._drop(key)
        minute = int(when // GRAIN)
        self._minute_of[key] = minute
        if minute not in self._keys_of:
            self._keys_of[minute] = {}
            heapq.heappush(self._minutes, minute)
        self._keys_of[minute][key] = None

    def put_earlier(self, key: K, when: float) -> None:
        """Make `key` due at `when`, unless it is due before that."""
        minute = self._minute_of.get(key)
        if minute is None or when // GRAIN < minute:
            self.put(key, when)

    def take(self, now: float, limit: int) -> list[K]:
        """Take out up to `limit` keys that are due."""
        taken: list[K] = []
        while self._minutes and self._minutes[0] < now // GRAIN and len(taken) < limit:
            keys = self._keys_of[self._minutes[0]]
            while keys and len(taken) < limit:
                key, _ = keys.popitem()
                del self._minute_of[key]
                taken.append(key)
            if not keys:
                del self._keys_of[heapq.heappop(self._minutes)]
        return taken

    def _drop(self, key: K) -> None:
        minute = self._minute_of.pop(key, None)
        if minute is not None:
            del self._keys_of[minute][key]
