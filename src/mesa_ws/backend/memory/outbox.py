"""Numbered messages, of one id or to everybody. Without a clock: time is an argument."""

import heapq
import os
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

from ...messages.envelope import Retention
from ...messages.receipt import OutboxHead, Position, Range, Stored
from ..outbox import Entry, Page, PageStatus
from .node import Holding, Seat

PAGE_ENTRIES = 256
"""Messages of one page, at most."""

PAGE_BYTES = 256 * 1024
"""Bytes of the messages of one page, unless its first is larger by itself."""

MAX_RANGES = 8
"""Ranges of dropped messages that are remembered."""


class Kept(NamedTuple):
    """A stored message; the outboxes of all its recipients share it.

    Attributes:
        at: when it was stored.
        expires: when it is dropped.
        message_id: names its dispatch.
        body: the encoded frame.
        excluding: ids that do not get it.
    """

    at: float
    expires: float
    message_id: str
    body: bytes
    excluding: frozenset[str] = frozenset()


class Outbox:
    """Messages in the order of their sequences, without holes: the oldest goes first.

    Attributes:
        epoch: not to be guessed, so that no position of another outbox fits.
        top: sequence of the last message.
        acknowledged: highest sequence that somebody has proven to have.
        window: seconds for which acknowledged messages are kept for other devices.
        needed_until: nothing is forgotten before this.
    """

    __slots__ = ("_dropped", "_kept", "_size", "acknowledged", "epoch", "needed_until", "top", "window")

    def __init__(self, epoch: str | None = None) -> None:
        self.epoch = epoch or os.urandom(8).hex()
        self.top = 0
        self.acknowledged = 0
        self.window = 0.0
        self.needed_until = 0.0
        self._kept: dict[int, Kept] = {}
        self._size = 0
        self._dropped: list[Range] = []

    @property
    def gone(self) -> int:
        """Messages up to this sequence are not here any more."""
        return self.top - len(self._kept)

    @property
    def last(self) -> Kept | None:
        """The newest message that is here."""
        return self._kept.get(self.top)

    @property
    def head(self) -> OutboxHead:
        """What is known without reading."""
        return OutboxHead(self.epoch, self.top, self.acknowledged, len(self._kept), (), tuple(self._dropped))

    def push(self, kept: Kept, retention: Retention) -> tuple[Position, int]:
        """Store a message; also tell how many were dropped to make room although nobody had them."""
        self.top += 1
        self._kept[self.top] = kept
        self._size += len(kept.body)
        displaced = 0
        while len(self._kept) > retention.max_messages or (
            self._size > retention.max_bytes and len(self._kept) > 1
        ):
            displaced += self._drop()
        return Position(self.epoch, self.top), displaced

    def expire(self, now: float) -> None:
        """Drop the oldest messages while their time is over."""
        while self._kept and self._kept[self.gone + 1].expires <= now:
            self._drop()

    def acknowledge(self, sequence: int) -> None:
        """Take note that somebody has the messages up to `sequence`."""
        self.acknowledged = max(self.acknowledged, sequence)

    def trim(self, floor: float, now: float) -> None:
        """Forget what is acknowledged, up to `floor`, once the window is over."""
        limit = min(self.acknowledged, floor)
        while self._kept and self.gone < limit and self._kept[self.gone + 1].at + self.window <= now:
            self._drop()

    def holds(self, position: Position) -> bool:
        """Whether `position` is one of this outbox."""
        return position.epoch == self.epoch and 0 <= position.sequence <= self.top

    def page(self, status: PageStatus, wanted: int) -> Page:
        """The messages after `wanted` that fit on a page."""
        start = max(wanted, self.gone)
        return Page(status, self.epoch, start, self.top, start - wanted, self._entries(start))

    def tip(self) -> Page:
        """An empty page at the end."""
        return self.page("fresh", self.top)

    def peek(self, limit: int) -> list[Stored]:
        """The first `limit` messages."""
        sequences = range(self.gone + 1, min(self.gone + limit, self.top) + 1)
        return [_stored(sequence, self._kept[sequence]) for sequence in sequences]

    def purge(self) -> int:
        """Drop everything, which counts as acknowledged then, and tell how many messages that were."""
        count = len(self._kept)
        while self._kept:
            self._drop()
        self.acknowledge(self.top)
        return count

    def empties_at(self, floor: float) -> float:
        """When the last message goes if nothing else happens; there has to be one."""
        last = self._kept[self.top]
        is_had = min(self.acknowledged, floor) >= self.top
        return min(last.expires, last.at + self.window) if is_had else last.expires

    def _entries(self, start: int) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        size = 0
        for sequence in range(start + 1, min(start + PAGE_ENTRIES, self.top) + 1):
            kept = self._kept[sequence]
            size += len(kept.body)
            if entries and size > PAGE_BYTES:
                break
            entries.append(Entry(sequence, kept.message_id, kept.body, kept.excluding))
        return tuple(entries)

    def _drop(self) -> bool:
        """Drop the oldest message; True if nobody had it."""
        sequence = self.gone + 1
        self._size -= len(self._kept.pop(sequence).body)
        is_lost = sequence > self.acknowledged
        if is_lost:
            self._note_lost(sequence)
        return is_lost

    def _note_lost(self, sequence: int) -> None:
        if self._dropped and self._dropped[-1][1] == sequence - 1:
            self._dropped[-1] = (self._dropped[-1][0], sequence)
        else:
            self._dropped = [*self._dropped[1 - MAX_RANGES :], (sequence, sequence)]


def _stored(sequence: int, kept: Kept) -> Stored:
    return Stored(sequence, kept.message_id, kept.at, kept.expires, kept.body)


DAY = 86_400.0

DAYS = 8
"""Days for which such an epoch is known, besides the day on which it was given out."""

BORN = 10 * DAY
"""Seconds for which an outbox is kept from its first message on, while positions of empty ones are
about: longer than its epoch could be given out again."""


class Origins:
    """Makes epochs of a secret, the day and the id, and knows them again."""

    def __init__(self) -> None:
        self._secret = os.urandom(16)
        self._given_until = 0.0
        self._wire2_until = 0.0
        self._window = 0.0

    def give(self, id: str, now: float) -> str:
        """Return the epoch of an empty outbox of `id` today, which a client will be told."""
        self._given_until = max(self._given_until, now + BORN)
        return self.epoch(id, now)

    def epoch(self, id: str, now: float) -> str:
        """Return the epoch that an empty outbox of `id` has today."""
        return self._epoch(id, int(now // DAY))

    def give_wire2(self, window: float, now: float) -> None:
        """Note that a client of wire 2 was given such an epoch, and may come back within `window`."""
        self._wire2_until, self._window = now + BORN, window

    def window(self, now: float) -> float:
        """For how long an outbox that begins keeps what was acknowledged."""
        return self._window if now < self._wire2_until else 0.0

    def are_given(self, now: float) -> bool:
        """Whether any client may come back with such an epoch."""
        return now < self._given_until

    def knows(self, id: str, epoch: str, now: float) -> bool:
        """Whether `epoch` was given out for an empty outbox of `id`; the clock may have stepped back."""
        today = int(now // DAY)
        return any(self._epoch(id, day) == epoch for day in range(today + 1, today - DAYS - 1, -1))

    def _epoch(self, id: str, day: int) -> str:
        return blake2b(f"{day}:{id}".encode(), digest_size=8, key=self._secret).hexdigest()


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

    def push(
        self, id: str, kept: Kept, retention: Retention, holders: Mapping[Seat, Holding]
    ) -> tuple[Position, int]:
        """Store a message; also tell how many were dropped to make room although nobody had them.

        Args:
            id: whose.
            kept: the message.
            keep: how it is kept.
            holders: the nodes that hold the id.
        """
        outbox = self.find(id, kept.at) or self._begin(id, kept.at, holders)
        self._keep_until(id, outbox, kept.at + retention.ttl + DAY)
        pushed = outbox.push(kept, retention)
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
