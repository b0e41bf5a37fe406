"""The inbox in memory: its queues, and the node's end."""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from ..inbox import (
    GUARANTEED_EVENTS,
    MAX_DEAD,
    MAX_KEPT,
    MAX_OBSERVED,
    PARTITIONS,
    AppendResult,
    Backlog,
    Capacity,
    DeadLetter,
    InboxEvent,
    QueueBacklog,
    WaitingEvent,
    has_place,
)
from ..presence import PortalWatch

CONNECTION_LOST = b'[1006,""]'
"""Data of the event that ends a connection when its node leaves."""


@dataclass(slots=True)
class MemoryQueue:
    """One partition.

    Attributes:
        events: offset -> event that no portal has handled.
        size: bytes of these events.
        weights: account -> weight of its events together.
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

    def is_full(self, capacity: Capacity, account: str, *, is_edge: bool) -> bool:
        """Return whether one more event does not fit; `is_edge` if it begins or ends a connection."""
        length = len(self.events)
        if is_edge:
            return length >= 2 * capacity.events
        if length >= capacity.events or (length >= GUARANTEED_EVENTS and self.size >= capacity.bytes):
            return True
        return not has_place(capacity, self.weights[account], length, self.size)

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
        self.weights[event.account] += times * event.weight
        if not self.weights[event.account]:
            del self.weights[event.account]


class MemoryInbox:
    """The queues of one namespace. Portals of this process cannot die alone, so they need no leases.

    Attributes:
        clock: returns the time in seconds of Unix time.
        queues: one for each partition.
        portals: the portals that live.
        watches: node -> notices which portals join and leave.
        offset: of the last event.
        observers: number of portals that `observe`; without any, nothing is kept for them.
        observed: events that are kept for them.
        dead: the dead letters.
        rejected: number of events that handlers have rejected.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.queues = [MemoryQueue() for _ in range(PARTITIONS)]
        self.portals: dict[str, None] = {}
        self.watches: dict[str, PortalWatch] = {}
        self.offset = 0
        self.observers = 0
        self.observed: _EventLog[WaitingEvent] = _EventLog(MAX_OBSERVED)
        self.dead: _EventLog[DeadLetter] = _EventLog(MAX_DEAD)
        self.rejected = 0
        self._open: dict[str, dict[str, InboxEvent]] = {}  # node -> connection -> its last event
        self._arrival = asyncio.Event()

    def backlog(self) -> Backlog:
        """Return which events wait; see `PortalConsumer.backlog`."""
        queues = []
        for number, queue in enumerate(self.queues):
            oldest = next((each.at for each in queue.events.values()), None)
            queues.append(QueueBacklog(number, queue.owner, len(queue.events), oldest))
        return Backlog(tuple(sorted(self.portals)), tuple(queues), len(self.dead), self.rejected)

    def append(self, event: InboxEvent, capacity: Capacity) -> AppendResult:
        """Append an event to its queue, if the queue has capacity."""
        connections = self._open.setdefault(event.node, {})
        known = connections.get(event.connection_id)
        if known is None and event.kind != "connection":
            return "gone" if event.kind == "disconnection" else "unknown"
        if known is not None and int(event.sequence) <= int(known.sequence):
            return "taken"
        is_login = event.kind == "authentication" and known is not None and known.id is None
        is_edge = is_login or event.kind in {"connection", "disconnection"}
        if self.queues[event.partition].is_full(capacity, event.account, is_edge=is_edge):
            return "full"
        if event.kind == "disconnection":
            del connections[event.connection_id]
        else:
            connections[event.connection_id] = event
        self.put(WaitingEvent("", self.clock(), event))
        return "taken"

    def end_connections(self, node: str) -> None:
        """End the connections of a node that leaves."""
        for last in self._open.pop(node, {}).values():
            end = msgspec.structs.replace(
                last, sequence=f"{last.sequence}r", kind="disconnection", data=CONNECTION_LOST, network=""
            )
            self.put(WaitingEvent("", self.clock(), end))

    async def arrival(self, seconds: float) -> None:
        """Wait for the next event, at most so many seconds."""
        arrival = self._arrival
        try:
            async with asyncio.timeout(seconds):
                await arrival.wait()
        except TimeoutError:
            return

    def put(self, waiting: WaitingEvent, *, is_new: bool = True) -> None:
        """Add an event to its queue; keep it for observers if it is new."""
        self.offset += 1
        placed = waiting._replace(offset=str(self.offset))
        self.queues[placed.event.partition].put(self.offset, placed)
        if is_new and self.observers:
            self.observed.put(self.offset, placed)
        self._arrival.set()
        self._arrival = asyncio.Event()


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

    def after(self, offset: int) -> list[_Item]:
        """Return the events after an offset, the oldest first."""
        return [item for at, item in self._items.items() if at > offset]
