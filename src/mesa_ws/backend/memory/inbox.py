"""The inbox in memory. Each method is one atomic step, as a script is in Redis."""

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
    READ_LIMITS,
    WEIGHT_UNIT,
    AppendResult,
    Backlog,
    Capacity,
    DeadLetter,
    InboxEvent,
    Ownership,
    QueueBacklog,
    Step,
    WaitingEvent,
)
from ..presence import PortalWatch

MAX_OBSERVED = 10_000
"""Events that are kept for portals that observe all queues."""

CONNECTION_LOST = b'[1006,""]'
"""Data of the event that ends a connection when its node leaves."""


@dataclass(slots=True)
class _Queue:
    """One partition.

    Attributes:
        events: offset -> event that no portal has handled.
        size: bytes of these events.
        weights: connection -> weight of its events together.
        deliveries: offset -> how often the event was delivered.
        last: the portal that began the last delivery, and its attempt.
        owner: the portal that owns the queue.
        token: the last token that was given to an owner.
    """

    events: OrderedDict[int, WaitingEvent] = field(default_factory=OrderedDict)
    size: int = 0
    weights: Counter[str] = field(default_factory=Counter)
    deliveries: dict[int, int] = field(default_factory=dict)
    last: tuple[str, int] = ("", 0)
    owner: str | None = None
    token: int = 0

    def is_full(self, capacity: Capacity, connection_id: str, *, is_edge: bool) -> bool:
        """Return whether one more event does not fit; `is_edge` if it begins or ends a connection."""
        length = len(self.events)
        if is_edge:
            return length >= 2 * capacity.events
        if self.weights[connection_id] >= MAX_CONNECTION_WEIGHT:
            return True
        return length >= capacity.events or (length >= GUARANTEED_EVENTS and self.size >= capacity.bytes)

    def put(self, offset: int, waiting: WaitingEvent) -> None:
        """Add an event."""
        self.events[offset] = waiting
        self._weigh(waiting.event, 1)

    def is_repeated(self, portal: str, attempt: int) -> bool:
        """Return whether the portal repeats the steps that it carried out last."""
        if not attempt:
            return False
        before, self.last = self.last, (portal, attempt)
        return before == self.last

    def begin(self, offset: int, *, is_repeated: bool) -> int:
        """Count a delivery, unless a repeated step has counted it already; return their number."""
        if not is_repeated or offset not in self.deliveries:
            self.deliveries[offset] = self.deliveries.get(offset, 0) + 1
        return self.deliveries[offset]

    def take_out(self, offset: int) -> tuple[WaitingEvent | None, int]:
        """Remove an event; return it, if it was there, and how often it was delivered."""
        waiting, deliveries = self.events.pop(offset, None), self.deliveries.pop(offset, 0)
        if waiting is not None:
            self._weigh(waiting.event, -1)
        return waiting, deliveries

    def _weigh(self, event: InboxEvent, times: int) -> None:
        self.size += times * len(event.data)
        self.weights[event.connection_id] += times * (1 + len(event.data) // WEIGHT_UNIT)
        if not self.weights[event.connection_id]:
            del self.weights[event.connection_id]


class MemoryInbox:
    """The queues of one namespace. Portals of this process cannot die alone, so they need no leases.

    Args:
        clock: returns the time in seconds of Unix time.

    Attributes:
        observers: number of portals that `overhear`; without any, nothing is kept for them.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._queues = [_Queue() for _ in range(PARTITIONS)]
        self._open: dict[str, dict[str, InboxEvent]] = {}  # node -> connection -> its last event
        self._portals: dict[str, None] = {}
        self._watches: dict[str, PortalWatch] = {}
        self._offset = 0
        self._observed: _EventLog[WaitingEvent] = _EventLog(MAX_OBSERVED)
        self.observers = 0
        self._dead: _EventLog[DeadLetter] = _EventLog(MAX_DEAD)
        self._rejected = 0
        self._arrival = asyncio.Event()

    def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Append an event to its queue, if the queue has capacity."""
        connections = self._open.setdefault(event.node, {})
        known = connections.get(event.connection_id)
        is_edge = event.kind in {"connection", "disconnection"}
        if known is None and event.kind != "connection":
            return "gone" if is_edge else "unknown"
        if known is not None and int(event.sequence) <= int(known.sequence):
            return "taken"
        if self._queues[event.partition].is_full(capacity, event.connection_id, is_edge=is_edge):
            return "full"
        if event.kind == "disconnection":
            del connections[event.connection_id]
        else:
            connections[event.connection_id] = event
        self._put(WaitingEvent("", self._clock(), event))
        return "taken"

    def end_connections(self, node: str) -> None:
        """End the connections of a node that leaves."""
        for last in self._open.pop(node, {}).values():
            end = last._replace(sequence=f"{last.sequence}r", kind="disconnection", data=CONNECTION_LOST)
            self._put(WaitingEvent("", self._clock(), end))

    def watch_portals(self, node: str, watch: PortalWatch) -> None:
        """Tell a node which portals there are, and which join and leave later."""
        self._watches[node] = watch
        watch.look(self._portals)

    def unwatch_portals(self, node: str) -> None:
        """Stop telling a node about portals."""
        self._watches.pop(node, None)

    def tend(self, portal: str, wanted: Collection[int], *, stays: bool) -> Ownership:
        """Give a portal the wanted queues that are free, and take all others from it."""
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
        """Return events of these partitions after these offsets."""
        found, most = list[WaitingEvent](), READ_LIMITS[len(after)]
        for number, text in after.items():
            offset, some = int(text or 0), []
            for at, waiting in self._queues[number].events.items():
                if at > offset:
                    some.append(waiting)
                if len(some) == most:
                    break
            found += some
        return found

    def settle(self, portal: str, steps: Sequence[Step]) -> list[int]:
        """Carry out steps of one queue; see `PortalConsumer.settle`."""
        queue = self._queues[steps[0].partition]
        if queue.owner != portal or queue.token != steps[0].token:
            return [-1] * len(steps)
        is_repeated = queue.is_repeated(portal, max(step.attempt for step in steps))
        return [self._carry_out(queue, step, is_repeated=is_repeated) for step in steps]

    @property
    def end(self) -> str:
        """The offset of the last event."""
        return str(self._offset)

    def overhear(self, after: str) -> list[WaitingEvent]:
        """Return the events of all queues after an offset."""
        return [waiting for offset, waiting in self._observed.items() if offset > int(after)]

    def backlog(self) -> Backlog:
        """Return which events wait now."""
        queues = []
        for number, queue in enumerate(self._queues):
            oldest = next((each.at for each in queue.events.values()), None)
            queues.append(QueueBacklog(number, queue.owner, len(queue.events), oldest))
        return Backlog(tuple(sorted(self._portals)), tuple(queues), len(self._dead), self._rejected)

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        return [dead for _, dead in self._dead.items()][:limit]

    def revive(self, offsets: Sequence[str]) -> int:
        """Append dead letters to their queues; return their number."""
        revived = [dead for offset in offsets if (dead := self._dead.take(int(offset))) is not None]
        for dead in revived:
            self._put(WaitingEvent("", dead.at, dead.event), is_new=False)
        return len(revived)

    def drop(self, offsets: Sequence[str]) -> int:
        """Drop dead letters; return their number."""
        return sum(self._dead.take(int(offset)) is not None for offset in offsets)

    async def arrival(self, seconds: float) -> None:
        """Wait for the next event, at most so many seconds."""
        arrival = self._arrival
        try:
            async with asyncio.timeout(seconds):
                await arrival.wait()
        except TimeoutError:
            return

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

    def _put(self, waiting: WaitingEvent, *, is_new: bool = True) -> None:
        self._offset += 1
        placed = waiting._replace(offset=str(self._offset))
        self._queues[placed.event.partition].put(self._offset, placed)
        if is_new and self.observers:
            self._observed.put(self._offset, placed)
        self._arrival.set()
        self._arrival = asyncio.Event()

    def _bury(self, waiting: WaitingEvent, deliveries: int, reason: str) -> None:
        self._offset += 1
        dead = DeadLetter(str(self._offset), self._clock(), deliveries, reason, waiting.at, waiting.event)
        self._dead.put(self._offset, dead)


_Item = TypeVar("_Item", WaitingEvent, DeadLetter)


class _EventLog(Generic[_Item]):
    """Events by their offsets; the oldest are dropped when there are too many.

    Args:
        most: largest number of events.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = 0
        self._items: OrderedDict[int, _Item] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, offset: int, item: _Item) -> None:
        """Add an event; at most `MAX_KEPT` bytes are kept, but the newest whatever its size."""
        self._items[offset] = item
        self._size += len(item.event.data)
        while len(self._items) > self._most or (self._size > MAX_KEPT and len(self._items) > 1):
            self.take(next(iter(self._items)))

    def take(self, offset: int) -> _Item | None:
        """Remove an event and return it, if it is there."""
        item = self._items.pop(offset, None)
        if item is not None:
            self._size -= len(item.event.data)
        return item

    def items(self) -> Iterable[tuple[int, _Item]]:
        """Return all events with their offsets, the oldest first."""
        return self._items.items()
