"""The outboxes of all ids, each for as long as somebody may need it."""

from collections.abc import Callable, Mapping

from ...envelope import Keep
from ...position import Position
from .origins import BORN, DAY, Origins
from .outbox import Kept, Outbox
from .seat import Holding, Seat
from .timetable import Timetable

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
        self._origins = Origins()
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
        """The outbox of `id`, which stays for `ttl` and a day from now on; an empty one that is not kept if
        nothing was stored so far.
        """
        outbox = self.find(id, now)
        if outbox is None:
            return Outbox(self._origins.give(id, now))
        self._keep_until(id, outbox, now + ttl + DAY)
        return outbox

    def meet_wire2(self, id: str, window: float, now: float) -> None:
        """Keep what is acknowledged for `window` from now on; also where nothing is stored so far."""
        outbox = self.find(id, now)
        if outbox is None:
            self._origins.give_wire2(window, now)
        else:
            outbox.window = window

    def is_before(self, id: str, position: Position, now: float) -> bool:
        """Whether `position` was given out for `id` before anything was stored."""
        return position.sequence == 0 and self._origins.knows(id, position.epoch, now)

    def push(self, id: str, kept: Kept, keep: Keep, holders: Mapping[Seat, Holding]) -> tuple[Position, int]:
        """Store a message; also tell how many were dropped to make room although nobody had them.

        Args:
            id: whose.
            kept: the message.
            keep: how it is kept.
            holders: the nodes that hold the id.
        """
        outbox = self.find(id, kept.at) or self._begin(id, kept.at, holders)
        self._keep_until(id, outbox, kept.at + keep.ttl + DAY)
        pushed = outbox.push(kept, keep)
        self._timetable.put_earlier(id, kept.expires)
        return pushed

    def _begin(self, id: str, now: float, holders: Mapping[Seat, Holding]) -> Outbox:
        """Make an outbox: in the epoch that a connection was given, or that one may have been given today."""
        if not self._origins.are_given(now):
            self._outboxes[id] = Outbox()
            return self._outboxes[id]
        given = (holding.epoch for holding in holders.values() if holding.epoch)
        known = (epoch for epoch in given if self._origins.knows(id, epoch, now))
        outbox = self._outboxes[id] = Outbox(next(known, None) or self._origins.epoch(id, now))
        outbox.window = self._origins.window(now)
        self._keep_until(id, outbox, now + BORN)
        return outbox

    def _keep_until(self, id: str, outbox: Outbox, until: float) -> None:
        outbox.needed_until = max(outbox.needed_until, until)
        self._timetable.put_earlier(id, outbox.needed_until)

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
