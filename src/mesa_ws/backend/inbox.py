"""The inbox: what clients do, on its way from nodes to portals. Values, and the ports of both ends.

The inbox has `PARTITIONS` queues. All events of one connection go to one queue, in their order, and stay
there until a portal has handled them. One portal owns a queue and handles its events. A portal that lost
a queue, for example because its process was paused, cannot change that queue any more.
"""

from collections.abc import Awaitable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol
from zlib import crc32

import msgspec

from ..messages.envelope import Envelope

PARTITIONS = 16
"""Queues of one namespace, and so the largest number of portals that have something to do."""

GUARANTEED_EVENTS = 64
"""Events that a queue accepts whatever their size."""

READ_AHEAD = 4000
READ_AHEAD_BYTES = 4 * 1024 * 1024
"""Events of one queue, and their bytes, that a portal reads before it can handle them: so far it finds the
events of others behind those of an account that floods."""

MAX_ACCOUNT_WEIGHT = READ_AHEAD // 2
"""Weight of the waiting events of one account; see `has_place`. A burst fits while no portal is there."""

FEW = 16
"""Weight that an account may have in a queue whatever others have there, unless the queue is full."""

WEIGHT_UNIT = 1024
"""Bytes that count as one more event: the weight of an event is `1 + len(data) // WEIGHT_UNIT`."""

MAX_READ = 128
"""Events in one read."""

READ_LIMITS = (0, *(min(MAX_READ // 4, MAX_READ // queues) for queues in range(1, PARTITIONS + 1)))
"""Events of each queue in one read, by the number of queues that are read."""

MAX_DEAD = 10_000
"""Dead letters that are kept; beyond that number the oldest are dropped."""

MAX_OBSERVED = 10_000
"""Events that are kept for observers; beyond that number the oldest are dropped."""

MAX_KEPT = 64 * 1024 * 1024
"""Bytes of dead letters, and bytes that are kept for observers; beyond that size the oldest are dropped."""

EventKind = Literal["connection", "authentication", "message", "disconnection"]

EntryKind = EventKind | Literal["unreadable"]
"""Kind of an entry of a queue; one that cannot be read becomes a dead letter, and reaches no handler."""

Action = Literal["begin", "done", "reject", "die"]

_REPLY_MARK = "?"
"""Ends the recipient of replies to a connection's requests; no connection has such a name."""

AppendResult = Literal["taken", "full", "unknown", "gone"]
"""What became of an event. `taken`: the queue has it. `full`: there are too many; try later. `unknown`: the
connection counts as ended; begin it again with an event of kind `connection`. `gone`: the same for the
last event of a connection, which may have been stored before. Only `taken` stores anything."""


class InboxEvent(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to a connection.

    Attributes:
        connection_id: names the connection.
        partition: the queue of that connection.
        sequence: counts the events of one connection; an event that its node did not send has none.
        kind: what happened.
        id: the id of the client at that time, or None.
        node: the node of the connection.
        data: for a message the encoded frame; the frame of a request names it, and the portal sends a `Reply`
            with that name to the `reply_recipient` of the connection. For a disconnection its code and
            reason as JSON. For an unreadable entry its fields as JSON.
        network: the network of a client without an id, if its places are counted together; else empty.
    """

    connection_id: str
    partition: int
    sequence: str
    kind: EntryKind
    id: str | None
    node: str
    data: bytes = b""
    network: str = ""

    @property
    def account(self) -> str:
        """What its place in the queue counts for: the id; without one, the network or the connection."""
        return f":{self.id}" if self.id is not None else self.network or self.connection_id

    @property
    def weight(self) -> int:
        """Its weight among the events of its account."""
        return 1 + len(self.data) // WEIGHT_UNIT

    @property
    def key(self) -> str:
        """Name of this event among all events."""
        return f"{self.connection_id}:{self.sequence}"


class Capacity(NamedTuple):
    """Limits of a queue.

    Attributes:
        events: number of events; events that begin or end a connection, or its first login, have twice that
            limit. Those of one account have their places as `has_place` says.
        bytes: size of all waiting events, as far as the backend can tell. The first
            `GUARANTEED_EVENTS` events fit whatever their size.
    """

    events: int
    bytes: int


def has_place(capacity: Capacity, weight: int, events: int, size: int) -> bool:
    """Return whether an account may have one more message in a queue: it gets no more than what is left.

    So one account has half of what a portal reads ahead, two have a third each, and so on; what each of them
    leaves free is there for accounts that have little. scripts/append.lua does the same in Redis.

    Args:
        capacity: the limits of the queue.
        weight: of what the account has there.
        events: number of all events there.
        size: bytes of all events there.
    """
    if weight < FEW:
        return True
    free: float = min(READ_AHEAD, capacity.events) - events
    if events >= GUARANTEED_EVENTS:
        free = min(free, (min(READ_AHEAD_BYTES, capacity.bytes) - size) / WEIGHT_UNIT)
    return weight < min(MAX_ACCOUNT_WEIGHT, free)


class WaitingEvent(NamedTuple):
    """An event that no portal has handled yet.

    Attributes:
        offset: its position in its queue.
        at: when it was appended, in seconds of Unix time.
        event: what happened.
    """

    offset: str
    at: float
    event: InboxEvent


class DeadLetter(NamedTuple):
    """An event that portals gave up.

    Attributes:
        offset: names it among the dead letters.
        died: when portals gave it up, in seconds of Unix time.
        deliveries: how often handlers were called with it.
        reason: why portals gave it up.
        at: when it was appended, in seconds of Unix time.
        event: what happened.
    """

    offset: str
    died: float
    deliveries: int
    reason: str
    at: float
    event: InboxEvent


class QueueBacklog(NamedTuple):
    """Backlog of one queue.

    Attributes:
        partition: number of the queue.
        owner: the portal that owns the queue, or None.
        waiting: number of events that no portal has handled.
        oldest: when the first of them was appended, in seconds of Unix time; None for an empty queue.
    """

    partition: int
    owner: str | None
    waiting: int
    oldest: float | None


class Backlog(NamedTuple):
    """Backlog of all queues.

    Attributes:
        portals: the portals that live.
        queues: all queues, in their order.
        dead: number of dead letters.
        rejected: number of events that handlers have rejected; a month after the last one it is 0 again.
    """

    portals: tuple[str, ...]
    queues: tuple[QueueBacklog, ...]
    dead: int
    rejected: int

    @property
    def waiting(self) -> int:
        """Number of events in all queues."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def oldest(self) -> float | None:
        """When the first waiting event was appended, in seconds of Unix time; None if no event waits."""
        return min((queue.oldest for queue in self.queues if queue.oldest is not None), default=None)


class Step(NamedTuple):
    """One change that a portal makes to a waiting event of a queue that it owns.

    Attributes:
        partition: the queue.
        token: proves that the portal owns the queue.
        action: `begin` counts a delivery, `done` removes the event, `reject` removes it and counts it as
            rejected, `die` makes it a dead letter.
        offset: of the event.
        account: of the event.
        weight: of the event.
        attempt: numbers the deliveries that this portal begins, from 1 on; 0 for other actions.
        reason: why the event dies.
        message_ids: messages that handlers sent because of the event, which need not be remembered for long
            any more.
    """

    partition: int
    token: int
    action: Action
    offset: str
    account: str
    weight: int
    attempt: int = 0
    reason: str = ""
    message_ids: tuple[str, ...] = ()


class Ownership(NamedTuple):
    """The living portals, and the queues that the calling portal owns.

    Attributes:
        portals: all portals that live.
        tokens: partition -> the token that proves that the portal owns it.
    """

    portals: tuple[str, ...]
    tokens: Mapping[int, int]


def partition_of(connection_id: str) -> int:
    """Return the queue of a connection."""
    return crc32(connection_id.encode()) % PARTITIONS


def reply_recipient(connection_id: str) -> str:
    """Return the recipient of replies to requests of a connection; older nodes ignore such a recipient."""
    return f"{connection_id}{_REPLY_MARK}"


def answered_connection(recipient: str) -> str | None:
    """Return the connection whose request is answered; None if `recipient` is not one of replies."""
    return recipient.removesuffix(_REPLY_MARK) if recipient.endswith(_REPLY_MARK) else None


class Inbox(Protocol):
    """A node's end of the inbox."""

    @property
    def joins(self) -> int:
        """How often this node had to begin: what it appended before may be forgotten, or was ended."""
        ...

    def append(self, event: InboxEvent, capacity: Capacity) -> Awaitable[AppendResult]:
        """Append an event to its queue, if the queue has capacity. Cancelling is safe; it may be appended.

        A second append of the same sequence changes nothing. When the node dies, its connections
        end: the backend appends the last event of each connection that began.

        Raises:
            BackendError: the backend refused the event, or did not answer.
        """
        ...


class PortalConsumer(Protocol):
    """A portal's end of the inbox; for one event loop."""

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        ...

    async def heartbeat(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Renew the portal's lease, own the wanted queues that are free, and give up all others.

        Has to be repeated within the lease. Also ends the connections of nodes that died.

        Raises:
            BackendError: the backend did not answer; the portal loses its queues when the lease is over.
        """
        ...

    async def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Wait a moment for events of these partitions after these offsets; '' is before all events.

        Any portal may read; only the owner of a queue can carry out a `Step`.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Carry out steps, in their order.

        Returns:
            For each step: for `begin` how often the event was delivered by now; 0 for the others; -1
            where this portal does not own the queue.

        Raises:
            BackendError: the backend did not answer. Repeating the same steps changes nothing, as long as
                the portal carried out no others in between.
        """
        ...

    async def observe(self, after: str) -> tuple[str, list[WaitingEvent]]:
        """Wait a moment for the events of all queues after an offset, without removing any; '' begins now.

        An observer that does not come back within the lease, or is ten thousand events or `MAX_KEPT` bytes
        behind, misses some.

        Returns:
            The offset to go on from, and the events.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection of one node; return whether that node lives.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def backlog(self) -> Backlog:
        """Return which events wait, and which portals own the queues.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def revive(self, offsets: Sequence[str]) -> int:
        """Append dead letters to their queues, as if they had never been delivered; return their number.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def drop(self, offsets: Sequence[str]) -> int:
        """Drop dead letters; return their number.

        Raises:
            BackendError: the backend did not answer.
        """
        ...

    async def aclose(self) -> None:
        """Close connections. Queues are given up with `heartbeat(..., stays=False)` before."""
        ...
