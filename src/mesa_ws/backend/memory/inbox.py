"""Letters for portals in memory. Each method is one step, as a script is in Redis."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..inbox import (
    ALWAYS,
    MAX_DEAD,
    MAX_KEPT,
    MOST_OF_ONE,
    PARTITIONS,
    Answer,
    Backlog,
    DeadLetter,
    Letter,
    Ownership,
    QueueBacklog,
    Room,
    Step,
    Steps,
    Waiting,
    most_of_each,
    weight_of,
)
from ..presence import PortalWatch

Kept = TypeVar("Kept", Waiting, DeadLetter)


class Shelf(Generic[Kept]):
    """Holds letters by their places.

    Args:
        most: how many.
        size: bytes of them; the newest fits whatever its size.
    """

    def __init__(self, most: int, size: int = MAX_KEPT) -> None:
        self._most = most
        self._most_bytes = size
        self._size = 0
        self._letters: OrderedDict[int, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._letters)

    def put(self, place: int, kept: Kept) -> None:
        """Add one, and drop the oldest where there are too many."""
        self._letters[place] = kept
        self._size += len(kept.letter.data)
        while len(self._letters) > self._most or (self._size > self._most_bytes and len(self._letters) > 1):
            self.take(next(iter(self._letters)))

    def take(self, place: int) -> Kept | None:
        """Take one away."""
        kept = self._letters.pop(place, None)
        if kept is not None:
            self._size -= len(kept.letter.data)
        return kept

    def items(self) -> Iterable[tuple[int, Kept]]:
        """All of them with their places, the oldest first."""
        return self._letters.items()


MAX_OBSERVED = 10_000
"""Letters that are kept for portals that see everything."""


@dataclass(slots=True)
class _Open:
    """A connection that has begun.

    Attributes:
        sequence: of its last letter.
        last: that letter.
    """

    sequence: int
    last: Letter


@dataclass(slots=True)
class _Queue:
    """One partition.

    Attributes:
        letters: place -> what nobody has dealt with.
        size: bytes of them.
        weights: connection -> what its letters weigh together.
        deliveries: place -> how often it was delivered.
        last: the portal that began a delivery last, and its attempt.
        owner: the portal that owns it.
        token: the last that was given out.
    """

    letters: "OrderedDict[int, Waiting]" = field(default_factory=OrderedDict)
    size: int = 0
    weights: Counter[str] = field(default_factory=Counter)
    deliveries: dict[int, int] = field(default_factory=dict)
    last: tuple[str, int] = ("", 0)
    owner: str | None = None
    token: int = 0

    def is_full(self, room: Room, connection_id: str, *, is_edge: bool) -> bool:
        """Whether it has no room for one more letter, which may say that a connection begins or ends."""
        length = len(self.letters)
        if is_edge:
            return length >= 2 * room.letters
        if self.weights[connection_id] >= MOST_OF_ONE:
            return True
        return length >= room.letters or (length >= ALWAYS and self.size >= room.bytes)

    def put(self, place: int, waiting: Waiting) -> None:
        """Let a letter wait."""
        self.letters[place] = waiting
        self._weigh(waiting.letter, 1)

    def is_repeated(self, portal: str, attempt: int) -> bool:
        """Whether steps are carried out once more."""
        if not attempt:
            return False
        before, self.last = self.last, (portal, attempt)
        return before == self.last

    def begin(self, place: int, *, is_repeated: bool) -> int:
        """Count a delivery, unless that was done."""
        if not is_repeated or place not in self.deliveries:
            self.deliveries[place] = self.deliveries.get(place, 0) + 1
        return self.deliveries[place]

    def take_out(self, place: int) -> tuple[Waiting | None, int]:
        """Forget a letter; returns it, if it was there, and how often it was delivered."""
        waiting, deliveries = self.letters.pop(place, None), self.deliveries.pop(place, 0)
        if waiting is not None:
            self._weigh(waiting.letter, -1)
        return waiting, deliveries

    def _weigh(self, letter: Letter, times: int) -> None:
        self.size += times * len(letter.data)
        self.weights[letter.connection_id] += times * weight_of(letter.data)
        if not self.weights[letter.connection_id]:
            del self.weights[letter.connection_id]


class Inbox:
    """The queues of one namespace. Portals of this process cannot die alone, so nobody has a lease.

    Args:
        clock: tells the time in seconds of Unix time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues = [_Queue() for _ in range(PARTITIONS)]
        self._open: dict[str, dict[str, _Open]] = {}
        self._portals: dict[str, None] = {}
        self._watches: dict[str, PortalWatch] = {}
        self._place = 0
        self._observed: Shelf[Waiting] = Shelf(MAX_OBSERVED)
        self._observers = 0
        self._dead: Shelf[DeadLetter] = Shelf(MAX_DEAD)
        self._rejected = 0
        self._arrival = asyncio.Event()

    def append(self, letter: Letter, room: Room) -> Answer:
        """Put a letter at the end of its queue, if there is room."""
        connections = self._open.setdefault(letter.node, {})
        known, sequence = connections.get(letter.connection_id), int(letter.sequence)
        is_edge = letter.kind in {"connection", "disconnection"}
        if known is None and letter.kind != "connection":
            return "gone" if is_edge else "unknown"
        if known is not None and sequence <= known.sequence:
            return "taken"
        if self._queues[letter.partition].is_full(room, letter.connection_id, is_edge=is_edge):
            return "full"
        if letter.kind == "disconnection":
            del connections[letter.connection_id]
        else:
            connections[letter.connection_id] = _Open(sequence, letter)
        self._put(Waiting("", self._clock(), letter))
        return "taken"

    def end_connections(self, node: str) -> None:
        """A node leaves: what began there ends."""
        for known in self._open.pop(node, {}).values():
            last = known.last._replace(sequence=f"{known.sequence}r", kind="disconnection", data=b'[1006,""]')
            self._put(Waiting("", self._clock(), last))

    def watch_portals(self, node: str, watch: PortalWatch) -> None:
        """Tell a node which portals there are, and who comes and goes."""
        self._watches[node] = watch
        watch.look(self._portals)

    def unwatch_portals(self, node: str) -> None:
        """Tell a node no more."""
        self._watches.pop(node, None)

    def tend(self, portal: str, wanted: Collection[int], *, stays: bool) -> Ownership:
        """Own what is wanted and free, and let go of all else."""
        if stays:
            self._portals[portal] = None
        else:
            self._portals.pop(portal, None)
        for watch in self._watches.values():
            watch.look(self._portals)
        tokens = {}
        for number, queue in enumerate(self._queues):
            is_free = queue.owner != portal and queue.owner not in self._portals
            if number in wanted and (is_free or queue.owner == portal):
                if is_free:
                    queue.owner, queue.token = portal, queue.token + 1
                tokens[number] = queue.token
            elif queue.owner == portal:
                queue.owner = None
        return Ownership(tuple(sorted(self._portals)), tokens)

    def read(self, after: Mapping[int, str]) -> list[Waiting]:
        """Letters of these partitions behind these places."""
        found, most = list[Waiting](), most_of_each(len(after))
        for number, text in after.items():
            place, some = int(text or 0), []
            for at, waiting in self._queues[number].letters.items():
                if at > place:
                    some.append(waiting)
                if len(some) == most:
                    break
            found += some
        return found

    def settle(self, portal: str, some: Steps) -> list[int]:
        """Carry out steps of one queue; see `Attendance.settle`."""
        queue = self._queues[some.partition]
        if queue.owner != portal or queue.token != some.token:
            return [-1] * len(some.steps)
        is_repeated = queue.is_repeated(portal, some.attempt)
        return [self._carry_out(queue, step, is_repeated=is_repeated) for step in some.steps]

    def _carry_out(self, queue: _Queue, step: Step, *, is_repeated: bool) -> int:
        place = int(step.place)
        if step.action == "begin":
            return queue.begin(place, is_repeated=is_repeated)
        waiting, deliveries = queue.take_out(place)
        if waiting is not None and step.action == "die":
            self._bury(waiting, deliveries, step.reason)
        elif waiting is not None and step.action == "reject":
            self._rejected += 1
        return 0

    def watch(self, starts: bool) -> None:
        """An observer comes, or goes."""
        self._observers += 1 if starts else -1

    @property
    def end(self) -> str:
        """The place behind which nothing has come."""
        return str(self._place)

    def overhear(self, after: str) -> list[Waiting]:
        """What came to any queue behind a place."""
        return [waiting for place, waiting in self._observed.items() if place > int(after)]

    def backlog(self) -> Backlog:
        """What waits now."""
        queues = []
        for number, queue in enumerate(self._queues):
            oldest = next((each.at for each in queue.letters.values()), None)
            queues.append(QueueBacklog(number, queue.owner, len(queue.letters), oldest))
        return Backlog(tuple(sorted(self._portals)), tuple(queues), len(self._dead), self._rejected)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        return [dead for _, dead in self._dead.items()][:limit]

    def revive(self, places: Sequence[str]) -> int:
        """Put dead letters at the end of their queues."""
        revived = [dead for place in places if (dead := self._dead.take(int(place))) is not None]
        for dead in revived:
            self._put(Waiting("", dead.at, dead.letter), is_news=False)
        return len(revived)

    def drop(self, places: Sequence[str]) -> int:
        """Forget dead letters."""
        return sum(self._dead.take(int(place)) is not None for place in places)

    async def arrival(self, seconds: float) -> None:
        """Wait until a letter comes, or for some time."""
        arrival = self._arrival
        try:
            async with asyncio.timeout(seconds):
                await arrival.wait()
        except TimeoutError:
            return

    def _put(self, waiting: Waiting, *, is_news: bool = True) -> None:
        self._place += 1
        placed = waiting._replace(place=str(self._place))
        self._queues[placed.letter.partition].put(self._place, placed)
        if is_news and self._observers:
            self._observed.put(self._place, placed)
        self._arrival.set()
        self._arrival = asyncio.Event()

    def _bury(self, waiting: Waiting, deliveries: int, reason: str) -> None:
        self._place += 1
        dead = DeadLetter(str(self._place), self._clock(), deliveries, reason, waiting.at, waiting.letter)
        self._dead.put(self._place, dead)
