"""Numbered messages in memory, of one id or to everybody. Time is an argument.

`Outboxes` keeps one `MemoryOutbox` for each id that needs one. An empty outbox is not kept: its client gets
an epoch that is computed from a secret, the day and the id, so that the outbox can begin later in the same
epoch.
"""

import heapq
import os
from hashlib import blake2b
from typing import Generic, NamedTuple, TypeVar

from ...messages.envelope import Retention
from ...messages.receipt import OutboxHead, Position, Range, Stored
from ..outbox import Acknowledgement, Entry, Page, PageStatus, Read, Start
from .node import Holders, MemoryNode

PAGE_ENTRIES = 256
"""Messages on one page, at most."""

PAGE_BYTES = 256 * 1024
"""Bytes of the messages on one page, unless its first message alone is larger."""

MAX_RANGES = 8
"""Ranges of dropped messages that an outbox remembers."""

DROPPED_AT_ONCE = 16
"""Largest number of outboxes that one step looks after."""

DAY = 86_400.0

EPOCH_DAYS = 8
"""Days for which an epoch of an empty outbox is valid, besides the day on which a client got it."""

YOUNG_LIFE = 10 * DAY
"""Seconds for which an outbox is kept from its first message on, while clients may have positions of empty
outboxes: longer than its epoch could be computed again."""

GRAIN = 60.0
"""Seconds: no key of a `Timetable` is due early, and none is due later than this."""


class StoredMessage(NamedTuple):
    """A message that the outboxes of all its recipients share.

    Attributes:
        at: when it was stored.
        expires: when it is dropped.
        message_id: id of its dispatch.
        body: the encoded frame.
        excluding: ids that do not get it.
    """

    at: float
    expires: float
    message_id: str
    body: bytes
    excluding: frozenset[str] = frozenset()


class MemoryOutbox:
    """Messages in the order of their sequences, without holes: the oldest is dropped first.

    Attributes:
        epoch: cannot be guessed, so no position of another outbox fits.
        top: sequence of the last message.
        acknowledged: highest sequence that a client has acknowledged.
        window: seconds for which acknowledged messages are kept for other devices.
        needed_until: the outbox is not forgotten before this time.
    """

    __slots__ = ("_dropped", "_messages", "_size", "acknowledged", "epoch", "needed_until", "top", "window")

    def __init__(self, epoch: str | None = None) -> None:
        self.epoch = epoch or os.urandom(8).hex()
        self.top = 0
        self.acknowledged = 0
        self.window = 0.0
        self.needed_until = 0.0
        self._messages: dict[int, StoredMessage] = {}
        self._size = 0
        self._dropped: list[Range] = []

    @property
    def gone(self) -> int:
        """The sequence up to which messages were dropped."""
        return self.top - len(self._messages)

    @property
    def last(self) -> StoredMessage | None:
        """The newest message, if it is still stored."""
        return self._messages.get(self.top)

    @property
    def head(self) -> OutboxHead:
        """The state of the outbox without its messages."""
        return OutboxHead(
            self.epoch, self.top, self.acknowledged, len(self._messages), (), tuple(self._dropped)
        )

    def push(self, message: StoredMessage, retention: Retention) -> tuple[Position, int]:
        """Store a message; return its position, and how many unacknowledged ones were dropped for it."""
        self.top += 1
        self._messages[self.top] = message
        self._size += len(message.body)
        displaced = 0
        while len(self._messages) > retention.max_messages or (
            self._size > retention.max_bytes and len(self._messages) > 1
        ):
            displaced += self._drop()
        return Position(self.epoch, self.top), displaced

    def expire(self, now: float) -> None:
        """Drop the messages that have expired."""
        while self._messages and self._messages[self.gone + 1].expires <= now:
            self._drop()

    def acknowledge(self, sequence: int) -> None:
        """Note that a client has the messages up to `sequence`."""
        self.acknowledged = max(self.acknowledged, sequence)

    def trim(self, floor: float, now: float) -> None:
        """Drop the acknowledged messages up to `floor` whose window is over."""
        limit = min(self.acknowledged, floor)
        while self._messages and self.gone < limit and self._messages[self.gone + 1].at + self.window <= now:
            self._drop()

    def holds(self, position: Position) -> bool:
        """Return whether `position` belongs to this outbox."""
        return position.epoch == self.epoch and 0 <= position.sequence <= self.top

    def page(self, status: PageStatus, wanted: int) -> Page:
        """Return a page with the messages after `wanted`."""
        start = max(wanted, self.gone)
        return Page(status, self.epoch, start, self.top, start - wanted, self._entries(start))

    def tip(self) -> Page:
        """Return an empty page at the end."""
        return self.page("fresh", self.top)

    def peek(self, limit: int) -> list[Stored]:
        """Return the first `limit` messages."""
        sequences = range(self.gone + 1, min(self.gone + limit, self.top) + 1)
        found = ((sequence, self._messages[sequence]) for sequence in sequences)
        return [
            Stored(sequence, each.message_id, each.at, each.expires, each.body) for sequence, each in found
        ]

    def purge(self) -> int:
        """Drop all messages, which count as acknowledged then; return their number."""
        count = len(self._messages)
        while self._messages:
            self._drop()
        self.acknowledge(self.top)
        return count

    def empties_at(self, floor: float) -> float:
        """Return when the last message will be dropped if nothing else happens; there has to be one."""
        last = self._messages[self.top]
        is_acknowledged = min(self.acknowledged, floor) >= self.top
        return min(last.expires, last.at + self.window) if is_acknowledged else last.expires

    def _entries(self, start: int) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        size = 0
        for sequence in range(start + 1, min(start + PAGE_ENTRIES, self.top) + 1):
            message = self._messages[sequence]
            size += len(message.body)
            if entries and size > PAGE_BYTES:
                break
            entries.append(Entry(sequence, message.message_id, message.body, message.excluding))
        return tuple(entries)

    def _drop(self) -> bool:
        """Drop the oldest message; return whether no client had acknowledged it."""
        sequence = self.gone + 1
        self._size -= len(self._messages.pop(sequence).body)
        if sequence <= self.acknowledged:
            return False
        if self._dropped and self._dropped[-1][1] == sequence - 1:
            self._dropped[-1] = (self._dropped[-1][0], sequence)
        else:
            self._dropped = [*self._dropped[1 - MAX_RANGES :], (sequence, sequence)]
        return True


class Outboxes:
    """Creates outboxes, and forgets those that are empty, have no connections, and whose positions are so
    old that no client comes back with them.

    Args:
        holders: the connections of all ids.
    """

    def __init__(self, holders: Holders) -> None:
        self._holders = holders
        self._outboxes: dict[str, MemoryOutbox] = {}
        self._timetable: Timetable[str] = Timetable()
        self._secret = os.urandom(16)
        self._empty_until = 0.0  # until then clients may come back with the epoch of an empty outbox,
        self._wire2_until = 0.0  # and until then clients of wire 2,
        self._window = 0.0  # within this window

    def __len__(self) -> int:
        return len(self._outboxes)

    def find(self, id: str, now: float) -> MemoryOutbox | None:
        """Return the outbox of `id`, without expired messages, or None."""
        outbox = self._outboxes.get(id)
        if outbox is not None:
            outbox.expire(now)
        return outbox

    def attach(self, node: MemoryNode, id: str, start: Start, now: float) -> Page:
        """Return the first page of a new connection."""
        is_empty = self.find(id, now) is None
        outbox = self._used(node, id, now, is_wire2=start.is_wire2)
        if start.mode == "resume":
            page = self._continued(id, outbox, start.position, now)
        elif start.mode == "fresh":
            page = outbox.page("fresh", outbox.acknowledged)
        else:
            if start.mode == "acknowledge":
                outbox.acknowledge(outbox.top)
            page = outbox.tip()
        if is_empty:
            node.held[id].epoch = page.epoch
        return page

    def read(self, node: MemoryNode, read: Read, now: float) -> Page:
        """Return the messages after a position."""
        outbox = self._used(node, read.id, now, is_wire2=read.is_wire2)
        return self._continued(read.id, outbox, read.position, now)

    def acknowledge(self, node: MemoryNode, acknowledgement: Acknowledgement, now: float) -> None:
        """Forget messages that were received; ignore an acknowledgement that cannot be true."""
        id, position, floor = acknowledgement
        outbox = self.find(id, now)
        if outbox is None or not outbox.holds(position):
            return
        self._keep_until(id, outbox, now + node.ttl + DAY)
        holding = node.held.get(id)
        if holding is not None:
            holding.floor = min(floor, outbox.top)
        outbox.acknowledge(position.sequence)
        outbox.trim(self._holders.floor(id), now)
        self.revisit(id)

    def push(self, id: str, message: StoredMessage, retention: Retention) -> tuple[Position, int]:
        """Store a message; return its position, and how many unacknowledged ones were dropped for it."""
        outbox = self.find(id, message.at) or self._begin(id, message.at)
        self._keep_until(id, outbox, message.at + retention.ttl + DAY)
        pushed = outbox.push(message, retention)
        self._timetable.put_earlier(id, message.expires)
        return pushed

    def revisit(self, id: str) -> None:
        """Plan to drop the messages that all connections have acknowledged: connections came or left."""
        outbox = self._outboxes.get(id)
        if outbox is not None and outbox.last is not None:
            self._timetable.put_earlier(id, outbox.empties_at(self._holders.floor(id)))

    def drop_expired(self, now: float) -> None:
        """Drop messages and outboxes that are due, a limited number at a time."""
        for id in self._timetable.take(now, DROPPED_AT_ONCE):
            outbox, floor = self._outboxes[id], self._holders.floor(id)
            outbox.expire(now)
            outbox.trim(floor, now)
            is_attached = floor < float("inf")
            if is_attached or outbox.needed_until > now:
                again = outbox.needed_until if outbox.last is None else outbox.empties_at(floor)
                self._timetable.put(id, again if again > now else now + DAY)
            else:
                del self._outboxes[id]

    def _used(self, node: MemoryNode, id: str, now: float, *, is_wire2: bool) -> MemoryOutbox:
        """Return the outbox of `id`, and keep it for a day longer than the node's positions are valid.

        If no message was stored so far, return an empty one that is not kept. For a client of wire 2, keep
        acknowledged messages from now on; also those of an outbox that begins later.
        """
        outbox = self.find(id, now)
        if outbox is None:
            self._empty_until = max(self._empty_until, now + YOUNG_LIFE)
            if is_wire2:
                self._wire2_until, self._window = now + YOUNG_LIFE, node.window
            return MemoryOutbox(self._empty_epoch(id, int(now // DAY)))
        self._keep_until(id, outbox, now + node.ttl + DAY)
        if is_wire2:
            outbox.window = node.window
        return outbox

    def _continued(self, id: str, outbox: MemoryOutbox, position: Position | None, now: float) -> Page:
        if position is not None and outbox.holds(position):
            return outbox.page("resumed", position.sequence)
        if position is not None and position.sequence == 0 and self._was_empty(id, position.epoch, now):
            return outbox.page("forked", 0)._replace(ended=0)
        return outbox.page("reset", outbox.acknowledged)

    def _begin(self, id: str, now: float) -> MemoryOutbox:
        """Create an outbox in the epoch that a connection got, or may have got today."""
        if now >= self._empty_until:
            self._outboxes[id] = MemoryOutbox()
            return self._outboxes[id]
        held = (holding.epoch for holding in self._holders.of(id).values() if holding.epoch)
        known = (epoch for epoch in held if self._was_empty(id, epoch, now))
        outbox = MemoryOutbox(next(known, None) or self._empty_epoch(id, int(now // DAY)))
        outbox.window = self._window if now < self._wire2_until else 0.0
        self._outboxes[id] = outbox
        self._keep_until(id, outbox, now + YOUNG_LIFE)
        return outbox

    def _keep_until(self, id: str, outbox: MemoryOutbox, until: float) -> None:
        outbox.needed_until = max(outbox.needed_until, until)
        self._timetable.put_earlier(id, outbox.needed_until)

    def _was_empty(self, id: str, epoch: str, now: float) -> bool:
        """Return whether `epoch` is one of an empty outbox of `id`; the clock may have stepped back."""
        today = int(now // DAY)
        return any(
            self._empty_epoch(id, day) == epoch for day in range(today + 1, today - EPOCH_DAYS - 1, -1)
        )

    def _empty_epoch(self, id: str, day: int) -> str:
        return blake2b(f"{day}:{id}".encode(), digest_size=8, key=self._secret).hexdigest()


_Key = TypeVar("_Key")


class Timetable(Generic[_Key]):
    """Keys that become due, each at one time.

    Every step takes constant time, except for a heap of the minutes that are in use.
    """

    def __init__(self) -> None:
        self._minute_of: dict[_Key, int] = {}
        self._keys_of: dict[int, dict[_Key, None]] = {}
        self._minutes: list[int] = []

    def __len__(self) -> int:
        return len(self._minute_of)

    def put(self, key: _Key, when: float) -> None:
        """Make `key` due at `when`, instead of any other time."""
        before, minute = self._minute_of.get(key), int(when // GRAIN)
        if before is not None:
            del self._keys_of[before][key]
        self._minute_of[key] = minute
        if minute not in self._keys_of:
            self._keys_of[minute] = {}
            heapq.heappush(self._minutes, minute)
        self._keys_of[minute][key] = None

    def put_earlier(self, key: _Key, when: float) -> None:
        """Make `key` due at `when`, unless it is due earlier."""
        minute = self._minute_of.get(key)
        if minute is None or when // GRAIN < minute:
            self.put(key, when)

    def take(self, now: float, limit: int) -> list[_Key]:
        """Remove up to `limit` keys that are due, and return them."""
        taken: list[_Key] = []
        while self._minutes and self._minutes[0] < now // GRAIN and len(taken) < limit:
            keys = self._keys_of[self._minutes[0]]
            while keys and len(taken) < limit:
                key, _ = keys.popitem()
                del self._minute_of[key]
                taken.append(key)
            if not keys:
                del self._keys_of[heapq.heappop(self._minutes)]
        return taken
