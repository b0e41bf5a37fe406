"""The outboxes of all ids, each for as long as somebody may need it."""

from collections.abc import Callable

from ...envelope import Keep
from ...position import Position
from .outbox import Kept, Outbox
from .timetable import Timetable

DAY = 86_400.0

AT_ONCE = 16
"""Outboxes that are looked at again in one step, at most."""

Floor = Callable[[str], float]
"""The lowest sequence that all connections of an id have; infinity for one without any."""


class Outboxes:
    """Makes outboxes, and forgets those that hold nothing, that nobody is attached to, and whose
    positions nobody can reasonably come back with.

    Args:
        floor: see `Floor`.
    """

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._outboxes: dict[str, Outbox] = {}
        self._timetable: Timetable[str] = Timetable()

    def __len__(self) -> int:
        return len(self._outboxes)

    def find(self, id: str, now: float) -> Outbox | None:
        """The outbox of `id`, without what has expired, if there is one."""
        outbox = self._outboxes.get(id)
        if outbox is not None:
            outbox.expire(now)
        return outbox

    def use(self, id: str, now: float, ttl: float) -> Outbox:
        """The outbox of `id`, new if need be, which stays for `ttl` and a day from now on."""
        outbox = self.find(id, now)
        if outbox is None:
            outbox = self._outboxes[id] = Outbox()
        outbox.needed_until = max(outbox.needed_until, now + ttl + DAY)
        self._timetable.put_earlier(id, outbox.needed_until)
        return outbox

    def push(self, id: str, kept: Kept, keep: Keep) -> tuple[Position, int]:
        """Store a message; also tell how many were dropped to make room although nobody had them."""
        outbox = self.use(id, kept.at, keep.ttl)
        pushed = outbox.push(kept, keep)
        self._timetable.put_earlier(id, kept.expires)
        return pushed

    def trim(self, id: str, now: float) -> None:
        """Forget what all connections of `id` have."""
        outbox = self._outboxes.get(id)
        if outbox is not None:
            outbox.trim(self._floor(id), now)
        self.revisit(id)

    def revisit(self, id: str) -> None:
        """Forget what all connections of `id` have, but not at once: some of them may have come or gone."""
        outbox = self._outboxes.get(id)
        if outbox is not None and outbox.last is not None:
            self._timetable.put_earlier(id, outbox.empties_at(self._floor(id)))

    def look_after(self, now: float) -> None:
        """Do what is due, some of it at a time."""
        for id in self._timetable.take(now, AT_ONCE):
            outbox, floor = self._outboxes[id], self._floor(id)
            outbox.expire(now)
            outbox.trim(floor, now)
            is_attached = floor < float("inf")
            if is_attached or outbox.needed_until > now:
                again = outbox.needed_until if outbox.last is None else outbox.empties_at(floor)
                self._timetable.put(id, again if again > now else now + DAY)
            else:
                del self._outboxes[id]
