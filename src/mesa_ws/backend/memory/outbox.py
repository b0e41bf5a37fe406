"""Numbered messages, of one id or to everybody. Without a clock: time is an argument."""

import os
from typing import NamedTuple

from ...envelope import Keep
from ...position import Position
from ...receipt_status import OutboxHead, Range
from ...stored import Stored
from ..outbox import Entry, Page, PageStatus

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

    def push(self, kept: Kept, keep: Keep) -> tuple[Position, int]:
        """Store a message; also tell how many were dropped to make room although nobody had them."""
        self.top += 1
        self._kept[self.top] = kept
        self._size += len(kept.body)
        displaced = 0
        while len(self._kept) > keep.max_messages or (self._size > keep.max_bytes and len(self._kept) > 1):
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
