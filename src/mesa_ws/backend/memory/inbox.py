"""Events for portals in memory. Each method is one step, as a script is in Redis."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..inbox import (
    GUARANTEED_EVENTS,
    MAX_CONNECTION_WEIGHT,
    MAX_DEAD,
    MAX_KEPT,
    PARTITIONS,
    AppendResult,
    Backlog,
    Capacity,
    DeadLetter,
    InboxEvent,
    Ownership,
    QueueBacklog,
    Step,
    Steps,
    WaitingEvent,
    read_limit,
    weight_of,
)
from ..presence import PortalWatch

Kept = TypeVar("Kept", WaitingEvent, DeadLetter)


class Shelf(Generic[Kept]):
    """Holds events by their offsets.

    Args:
        most: how many.
        size: bytes of them; the newest fits whatever its size.
    """

    def __init__(self, most: int, size: int = MAX_KEPT) -> None:
        self._most = most
        self._most_bytes = size
        self._size = 0
        self._events: OrderedDict[int, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._events)

    def put(self, offset: int, kept: Kept) -> None:
        """Add one, and drop the oldest where there are too many."""
        self._events[offset] = kept
        self._size += len(kept.event.data)
        while len(self._events) > self._most or (self._size > self._most_bytes and len(self._events) > 1):
            self.take(next(iter(self._events)))

    def take(self, offset: int) -> Kept | None:
        """Take one away."""
        kept = self._events.pop(offset, None)
        if kept is not None:
            self._size -= len(kept.event.data)
        return kept

    def items(self) -> Iterable[tuple[int, Kept]]:
        """All of them with their offsets, the oldest first."""
        return self._events.items()


MAX_OBSERVED = 10_000
"""Events that are kept for portals that see everything."""


@dataclass(slots=True)
class _Open:
    """A connection that has begun.

    Attributes:
        sequence: of its last event.
        last: that event.
    """

    sequence: int
    last: InboxEvent


@dataclass(slots=True)
class _Queue:
    """One partition.

    Attributes:
        events: offset -> what nobody has dealt with.
        size: bytes of them.
        weights: connection -> what its events weigh together.
        deliveries: offset -> how often it was delivered.
        last: the portal that began a delivery last, and its attempt.
        owner: the portal that owns it.
        token: the last that was given out.
    """

    events: "OrderedDict[int, WaitingEvent]" = field(default_factory=OrderedDict)
    size: int = 0
    weights: Counter[str] = field(default_factory=Counter)
    deliveries: dict[int, int] = field(default_factory=dict)
    last: tuple[str, int] = ("", 0)
    owner: str | None = None
    token: int = 0

    def is_full(self, capacity: Capacity, connection_id: str, *, is_edge: bool) -> bool:
        """Whether it has no capacity for one more event, which may say that a connection begins or ends."""
        length = len(self.events)
        if is_edge:
            return length >= 2 * capacity.events
        if self.weights[connection_id] >= MAX_CONNECTION_WEIGHT:
            return True
        return length >= capacity.events or (length >= GUARANTEED_EVENTS and self.size >= capacity.bytes)

    def put(self, offset: int, waiting: WaitingEvent) -> None:
        """Let an event wait."""
        self.events[offset] = waiting
        self._weigh(waiting.event, 1)

    def is_repeated(self, portal: str, attempt: int) -> bool:
        """Whether steps are carried out once more."""
        if not attempt:
            return False
        before, self.last = self.last, (portal, attempt)
        return before == self.last

    def begin(self, offset: int, *, is_repeated: bool) -> int:
        """Count a delivery, unless that was done."""
        if not is_repeated or offset not in self.deliveries:
            self.deliveries[offset] = self.deliveries.get(offset, 0) + 1
        return self.deliveries[offset]

    def take_out(self, offset: int) -> tuple[WaitingEvent | None, int]:
        """Forget an event; returns it, if it was there, and how often it was delivered."""
        waiting, deliveries = self.events.pop(offset, None), self.deliveries.pop(offset, 0)
        if waiting is not None:
            self._weigh(waiting.event, -1)
        return waiting, deliveries

    def _weigh(self, event: InboxEvent, times: int) -> None:
        self.size += times * len(event.data)
        self.weights[event.connection_id] += times * weight_of(event.data)
        if not self.weights[event.connection_id]:
            del self.weights[event.connection_id]


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
        self._offset = 0
        self._observed: Shelf[WaitingEvent] = Shelf(MAX_OBSERVED)
        self._observers = 0
        self._dead: Shelf[DeadLetter] = Shelf(MAX_DEAD)
        self._rejected = 0
        self._arrival = asyncio.Event()

    def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Put an event at the end of its queue, if there is capacity."""
        connections = self._open.setdefault(event.node, {})
        known, sequence = connections.get(event.connection_id), int(event.sequence)
        is_edge = event.kind in {"connection", "disconnection"}
        if known is None and event.kind != "connection":
            return "gone" if is_edge else "unknown"
        if known is not None and sequence <= known.sequence:
            return "taken"
        if self._queues[event.partition].is_full(capacity, event.connection_id, is_edge=is_edge):
            return "full"
        if event.kind == "disconnection":
            del connections[event.connection_id]
        else:
            connections[event.connection_id] = _Open(sequence, event)
        self._put(WaitingEvent("", self._clock(), event))
        return "taken"

    def end_connections(self, node: str) -> None:
        """A node leaves: what began there ends."""
        for known in self._open.pop(node, {}).values():
            last = known.last._replace(sequence=f"{known.sequence}r", kind="disconnection", data=b'[1006,""]')
            self._put(WaitingEvent("", self._clock(), last))

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

    def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Events of these partitions behind these offsets."""
        found, most = list[WaitingEvent](), read_limit(len(after))
        for number, text in after.items():
            offset, some = int(text or 0), []
            for at, waiting in self._queues[number].events.items():
                if at > offset:
                    some.append(waiting)
                if len(some) == most:
                    break
            found += some
        return found

    def settle(self, portal: str, some: Steps) -> list[int]:
        """Carry out steps of one queue; see `PortalConsumer.settle`."""
        queue = self._queues[some.partition]
        if queue.owner != portal or queue.token != some.token:
            return [-1] * len(some.steps)
        is_repeated = queue.is_repeated(portal, some.attempt)
        return [self._carry_out(queue, step, is_repeated=is_repeated) for step in some.steps]

    def _carry_out(self, queue: _Queue, step: Step, *, is_repeated: bool) -> int:
        offset = int(step.offset)
        if step.action == "begin":
            return queue.begin(offset, is_repeated=is_repeated)
        waiting, deliveries = queue.take_out(offset)
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
        """The offset behind which nothing has come."""
        return str(self._offset)

    def overhear(self, after: str) -> list[WaitingEvent]:
        """What came to any queue behind a offset."""
        return [waiting for offset, waiting in self._observed.items() if offset > int(after)]

    def backlog(self) -> Backlog:
        """What waits now."""
        queues = []
        for number, queue in enumerate(self._queues):
            oldest = next((each.at for each in queue.events.values()), None)
            queues.append(QueueBacklog(number, queue.owner, len(queue.events), oldest))
        return Backlog(tuple(sorted(self._portals)), tuple(queues), len(self._dead), self._rejected)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead events."""
        return [dead for _, dead in self._dead.items()][:limit]

    def revive(self, offsets: Sequence[str]) -> int:
        """Put dead events at the end of their queues."""
        revived = [dead for offset in offsets if (dead := self._dead.take(int(offset))) is not None]
        for dead in revived:
            self._put(WaitingEvent("", dead.at, dead.event), is_news=False)
        return len(revived)

    def drop(self, offsets: Sequence[str]) -> int:
        """Forget dead events."""
        return sum(self._dead.take(int(offset)) is not None for offset in offsets)

    async def arrival(self, seconds: float) -> None:
        """Wait until an event comes, or for some time."""
        arrival = self._arrival
        try:
            async with asyncio.timeout(seconds):
                await arrival.wait()
        except TimeoutError:
            return

    def _put(self, waiting: WaitingEvent, *, is_news: bool = True) -> None:
        self._offset += 1
        placed = waiting._replace(offset=str(self._offset))
        self._queues[placed.event.partition].put(self._offset, placed)
        if is_news and self._observers:
            self._observed.put(self._offset, placed)
        self._arrival.set()
        self._arrival = asyncio.Event()

    def _bury(self, waiting: WaitingEvent, deliveries: int, reason: str) -> None:
        self._offset += 1
        dead = DeadLetter(str(self._offset), self._clock(), deliveries, reason, waiting.at, waiting.event)
        self._dead.put(self._offset, dead)
