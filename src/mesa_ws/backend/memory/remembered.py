"""What is known by its message id, so that the same once more is no second message."""

from typing import NamedTuple

from ...position import Position
from .timetable import Timetable

AT_ONCE = 64
"""Ids that are forgotten in one step, at most."""

Known = dict[str, Position | None]
"""Whom a message was sent to, `*` among them, and where it is stored."""


class _Memory(NamedTuple):
    until: float
    known: Known


class Remembered:
    """Messages that were sent, for as long as each asked for."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._timetable: Timetable[str] = Timetable()

    def __len__(self) -> int:
        return len(self._memories)

    def of(self, message_id: str, seconds: float, now: float) -> Known:
        """What is known of a message; what the caller adds is remembered for `seconds`."""
        for forgotten in self._timetable.take(now, AT_ONCE):
            del self._memories[forgotten]
        if not seconds:
            return {}
        memory = self._memories.get(message_id)
        if memory is None or memory.until <= now:
            memory = self._memories[message_id] = _Memory(now + seconds, {})
            self._timetable.put(message_id, memory.until)
        return memory.known
