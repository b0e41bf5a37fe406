"""Expected state of the outbox of an id, from the operations on it.

`Truth` follows one id. After every step it gets the real data of Redis, and objects to everything that
the promises of Mesa do not allow:

- a position that stands for two messages, or an entry that was never dispatched;
- acknowledged messages that no device of the id received;
- missing messages that were not acknowledged, not too old and not too many, or that a living
  connection has not acknowledged; or missing without being counted;
- numbers that go back, or an outbox that expired early.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from mesa_ws.messages.receipt import Position

from .store import DAY_MS

SLACK_MS = 900
"""Allowance for the real duration of a test, as keys expire in real time. All durations of the model
include it, and time passes in whole seconds, so that it makes no difference."""

MAX_RUNS_BEFORE = 4
"""Number of earlier runs of Redis whose positions of empty outboxes are known."""

_ENTRY = struct.Struct(">dddB")


class Message(NamedTuple):
    """A dispatched message."""

    message_id: str
    body: bytes


class Stored(NamedTuple):
    """A message in Redis."""

    message: Message
    at: int
    expires: int


class Seen(NamedTuple):
    """The data of an outbox in Redis."""

    epoch: str
    top: int
    acknowledged: int
    forks: tuple[Position, ...]
    dropped: int
    ranges: tuple[tuple[int, int], ...]
    entries: dict[int, Stored]

    @classmethod
    def of(cls, head: list[bytes], entries: list[bytes]) -> "Seen | None":
        """Read the `m` and the `o` key of an id; return None without `m`."""
        if not head:
            assert not entries, "messages without a position"
            return None
        pairs = zip(head[::2], head[1::2], strict=True)
        fields = {key.decode(): value.decode() for key, value in pairs if key != b"h"}  # which is no text
        top = int(fields["s"])
        forks = [each.split(":") for each in fields.get("f", "").split(",") if each]
        ranges = [each.split("-") for each in fields.get("x", "").split(",") if each]
        return cls(
            fields["e"],
            top,
            int(fields.get("a", 0)),
            tuple(Position(epoch, int(sequence)) for epoch, sequence in forks),
            int(fields.get("d", 0)),
            tuple((int(low), int(high)) for low, high in ranges),
            {top - len(entries) + 1 + at: read_entry(entry) for at, entry in enumerate(entries)},
        )

    @property
    def base(self) -> int:
        """The newest sequence that has left the list."""
        return self.top - len(self.entries)

    def translate(self, position: Position) -> int | None:
        """Return the sequence up to which a client at `position` has everything; None if unknown."""
        if position.epoch == self.epoch:
            return position.sequence if position.sequence <= self.top else None
        for fork in self.forks:
            if fork.epoch == position.epoch:
                return min(position.sequence, fork.sequence)
        return None


def read_entry(entry: bytes) -> Stored:
    """Read an element of an `o` key."""
    at, expires, _, length = _ENTRY.unpack_from(entry)
    start = _ENTRY.size + length
    return Stored(Message(entry[_ENTRY.size : start].decode(), entry[start:]), int(at), int(expires))


class Given(NamedTuple):
    """Time when a position of an empty outbox was given out."""

    at: int
    run: int


class Step(NamedTuple):
    """Operations since the last check of an outbox.

    Attributes:
        pushed: entries that must be at its end now.
        max_messages: cap that a dispatch applied; 0 if there was none.
        max_bytes: the same in bytes of bodies.
        acknowledges_all: whether messages that no device received may count as acknowledged.
        drops_all: whether everything may be dropped.
        must_count: whether missing messages have to be counted by now.
    """

    pushed: tuple[Message, ...] = ()
    max_messages: int = 0
    max_bytes: int = 0
    acknowledges_all: bool = False
    drops_all: bool = False
    must_count: bool = False


class Around(NamedTuple):
    """Constraints of an outbox.

    Attributes:
        now: milliseconds of the model's time.
        handled: names of messages that some device of the id has handled.
        proven: position that each living connection of the id has acknowledged.
        keeps: milliseconds for which acknowledged messages are kept.
    """

    now: int
    handled: set[str]
    proven: tuple[Position, ...]
    keeps: int


@dataclass
class Truth:
    """The expected state of one id; a copy restores it when Redis goes back to a snapshot.

    Attributes:
        log: message of each sequence, from the first one on.
        places: position of each message.
        seen: data of Redis at the last check.
        gone: sequences that were counted as dropped.
        given: epochs given out with number 0 since the last loss of messages.
        rolled_back: those of a rolled back past, which may be valid or not.
    """

    id: str
    log: dict[int, Message] = field(default_factory=dict)
    places: dict[str, Position] = field(default_factory=dict)
    seen: Seen | None = None
    gone: set[int] = field(default_factory=set)
    counted: int = 0
    lasts_until: int = 0
    uses_wire2: bool = False
    given: dict[str, Given] = field(default_factory=dict)
    rolled_back: set[str] = field(default_factory=set)
    wire2_until: int = 0

    def give(self, epoch: str, now: int, run: int, *, is_wire2: bool) -> None:
        """Note that a client received the epoch of an empty outbox."""
        if is_wire2:
            self.wire2_until = now + 8 * DAY_MS
        self.given[epoch] = Given(now, run)
        self.rolled_back.discard(epoch)

    def statuses(self, position: Position, epoch: str, now: int, run: int) -> set[str]:
        """Return the allowed statuses of a position that the outbox in `epoch` does not know."""
        given = self.given.get(position.epoch)
        if position.sequence != 0 or (given is None and position.epoch not in self.rolled_back):
            return {"reset"}
        if given is None or now - given.at > 9 * DAY_MS:
            return {"forked", "reset"} if given is None else {"reset"}
        carried = "resumed" if position.epoch == epoch else "forked"
        is_old = now - given.at > 8 * DAY_MS or run - given.run > MAX_RUNS_BEFORE
        return {carried, "reset"} if is_old else {carried}

    def observe(self, seen: Seen | None, step: Step, around: Around) -> None:
        """Compare the data of Redis with the expected data, which it then becomes."""
        old = self.seen
        if seen is None or (old is not None and seen.translate(Position(old.epoch, old.top)) is None):
            self._forget(around)
            old = None
        if seen is None:
            return
        old = old or seen._replace(top=0, acknowledged=0, entries={}, dropped=0)
        self._append(seen, old, step)
        self._check_entries(seen)
        self._check_acknowledged(seen, old, step, around)
        self._check_gone(seen, old, step, around)
        self._check_counted(seen, old, step)
        self.seen = seen

    def use(self, now: int) -> None:
        """Note a write or a read, after which the outbox stays for a day at least."""
        self.lasts_until = max(self.lasts_until, now + DAY_MS - SLACK_MS)

    def _forget(self, around: Around) -> None:
        if self.seen is not None:
            assert around.now >= self.lasts_until, f"{self.id}: its outbox is gone before its time"
            if self.log:  # clients with an earlier position cannot know what is lost
                self.given, self.rolled_back = {}, set()
        self.log, self.places, self.seen, self.gone, self.counted = {}, {}, None, set(), 0
        self.uses_wire2 = False

    def _append(self, seen: Seen, old: Seen, step: Step) -> None:
        assert seen.top == old.top + len(step.pushed), f"{self.id}: {step.pushed} made {old.top} {seen.top}"
        for sequence, message in enumerate(step.pushed, old.top + 1):
            self.log[sequence] = message
            self.places[message.message_id] = Position(seen.epoch, sequence)

    def _check_entries(self, seen: Seen) -> None:
        for sequence, stored in seen.entries.items():
            assert stored.message == self.log.get(sequence), f"{self.id}: {sequence} is {stored.message}"

    def _check_acknowledged(self, seen: Seen, old: Seen, step: Step, around: Around) -> None:
        assert old.acknowledged <= seen.acknowledged <= seen.top, f"{self.id}: acknowledged {seen}"
        if step.acknowledges_all or step.drops_all:
            return
        for sequence in range(old.acknowledged + 1, seen.acknowledged + 1):
            had = self.log[sequence].message_id in around.handled
            assert had or sequence <= old.base, (
                f"{self.id}: {sequence} is acknowledged, but no device received it"
            )

    def _check_gone(self, seen: Seen, old: Seen, step: Step, around: Around) -> None:
        assert seen.base >= old.base, f"{self.id}: what was gone is back"
        slack = 0 if seen.entries else SLACK_MS
        sizes = {sequence: len(message.body) for sequence, message in self.log.items()}
        for sequence in range(old.base + 1, min(seen.base, old.top) + 1):
            is_over = old.entries[sequence].expires <= around.now + slack
            rest = seen.top - sequence + 1
            too_many = step.max_messages and (
                rest > step.max_messages
                or sum(sizes[each] for each in range(sequence, seen.top + 1)) > step.max_bytes
            )
            if not (is_over or too_many or step.drops_all):
                self._check_may_go(sequence, old.entries[sequence], seen, around)
        for sequence in range(old.top + 1, seen.base + 1):
            assert step.drops_all, f"{self.id}: {sequence} was dropped when it was dispatched"

    def _check_may_go(self, sequence: int, stored: Stored, seen: Seen, around: Around) -> None:
        assert sequence <= seen.acknowledged, f"{self.id}: {sequence} was dropped without an acknowledgement"
        for position in around.proven:
            proven = seen.translate(position)
            assert proven is None or proven >= sequence, (
                f"{self.id}: {sequence} was dropped; a living connection has proven only {position}"
            )
        slack = 0 if seen.entries else SLACK_MS
        assert stored.at + around.keeps <= around.now + slack, (
            f"{self.id}: {sequence} was not kept for its window"
        )

    def _check_counted(self, seen: Seen, old: Seen, step: Step) -> None:
        known = max(old.acknowledged, self.counted)
        found = seen.dropped - old.dropped
        if found or step.must_count:
            gone = range(known + 1, seen.base + 1)
            if step.drops_all:
                gone = range(known + 1, seen.top + 1)
            assert found == len(gone), f"{self.id}: counted {found} as dropped, expected {list(gone)}"
            self.gone.update(gone)
            self.counted = max(self.counted, seen.base)
        told = {each for low, high in seen.ranges for each in range(low, high + 1)}
        assert told <= self.gone, f"{self.id}: {seen.ranges} were not all dropped: {self.gone}"
        assert told == self.gone or len(seen.ranges) == 8, (
            f"{self.id}: {seen.ranges} tells not all: {self.gone}"
        )
