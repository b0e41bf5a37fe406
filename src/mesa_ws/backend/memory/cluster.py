"""One namespace in memory. Each method is one atomic step, as a script is in Redis."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...errors import Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Delivery, Position, Receipt
from ...settings import Durability
from ..outbox import BROADCASTS, Acknowledgement, Page, Read, Start
from ..pending import Pending
from ..queries import ConnectionCount, Heads, Online, OnlineCount, OnlineIds, Peek, Query
from .inbox import MemoryInbox
from .node import Holders, MemoryNode
from .outbox import MemoryOutbox, Outboxes, StoredMessage, Timetable

FORGOTTEN_AT_ONCE = 64
"""Largest number of message ids that are forgotten in one step."""

EVERYBODY = "*"

Known = dict[str, Position | None]
"""Recipients of a message, `*` among them, each with the position at which the message is stored."""


class Cluster:
    """Nodes and their connections, outboxes and the inbox of one namespace.

    Args:
        clock: returns the time in seconds of Unix time.

    Attributes:
        holders: the nodes, and the connections of all ids on them.
        requesters: requester -> its pending requests.
        inbox: the events for portals.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.holders = Holders()
        self.requesters: dict[str, Pending] = {}
        self.inbox = MemoryInbox(clock)
        self._clock = clock
        self._outboxes = Outboxes(self.holders.floor)
        self._broadcasts = MemoryOutbox()
        self._remembered = _RememberedMessages()

    def dispatch(self, envelope: Envelope) -> Receipt:
        """Store a message if it has a retention, and deliver it to the nodes that hold a recipient."""
        now = self._clock()
        self._tend(now)
        known = self._remembered.of(envelope.message_id, envelope.remember, now)
        if envelope.recipients.everybody:
            return self._to_everybody(envelope, known, now)
        return self._to_ids(envelope, known, now)

    def attach(self, node: MemoryNode, id: str, sockets: int, start: Start | None) -> Page | None:
        """Set the number of connections of an id on a node, and read the first page of the newest one."""
        is_new = id not in node.held
        holding = self.holders.hold(node, id, sockets)
        if start is None:
            return None
        now = self._clock()
        self._tend(now)
        is_unborn = self._outboxes.find(id, now) is None
        outbox = self._outboxes.use(id, now, node.ttl)
        if start.is_wire2:
            self._outboxes.meet_wire2(id, node.window, now)
        page = self._started(id, outbox, start, now)
        if is_unborn:
            holding.epoch = page.epoch
        holding.floor = page.start if is_new and sockets == 1 else min(holding.floor, page.start)
        self._outboxes.revisit(id)
        return page

    def detach(self, node: MemoryNode, id: str) -> None:
        """Remove the connections of `id` on a node."""
        self.holders.leave(node, id)
        self._outboxes.revisit(id)

    def read(self, node: MemoryNode, read: Read) -> Page:
        """Read the messages after a position."""
        now = self._clock()
        outbox = self._outboxes.use(read.id, now, node.ttl)
        if read.is_wire2:
            self._outboxes.meet_wire2(read.id, node.window, now)
        return self._continued(read.id, outbox, read.position, now)

    def acknowledge(self, node: MemoryNode, acknowledgement: Acknowledgement) -> None:
        """Forget messages that were received; ignore an acknowledgement that cannot be true."""
        id, position, floor = acknowledgement
        now = self._clock()
        outbox = self._outboxes.find(id, now)
        if outbox is None or not outbox.holds(position):
            return
        outbox = self._outboxes.use(id, now, node.ttl)
        holding = node.held.get(id)
        if holding is not None:
            holding.floor = min(floor, outbox.top)
        outbox.acknowledge(position.sequence)
        self._outboxes.trim(id, now)

    def broadcasts(self, position: Position | None) -> Page:
        """Read the messages to everybody."""
        outbox = self._broadcasts
        outbox.expire(self._clock())
        if position is None:
            return outbox.tip()
        if outbox.holds(position):
            return outbox.page("resumed", position.sequence)
        return outbox.page("reset", outbox.top)

    def answer(self, query: Query[Any]) -> Any:
        """Return the answer to a query."""
        now, holders = self._clock(), self.holders
        match query:
            case Online(ids):
                return {id: holders.online(id) for id in ids}
            case OnlineCount():
                return len(holders)
            case OnlineIds(cursor):
                return holders.page(cursor)
            case ConnectionCount():
                return sum(node.connections for node in holders.nodes)
            case Heads(ids):
                found = {id: self._outboxes.find(id, now) for id in ids}
                return {id: outbox.head if outbox else None for id, outbox in found.items()}
            case Peek(id, limit):
                outbox = self._outboxes.find(id, now)
                return outbox.peek(limit) if outbox else []
        raise NotImplementedError(query)

    def purge(self, id: str) -> int:
        """Drop the messages of an outbox, and return their number."""
        outbox = self._outboxes.find(id, self._clock())
        return outbox.purge() if outbox else 0

    def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection of a node; return whether that node is open."""
        receiver = next((each for each in self.holders.nodes if each.name == node), None)
        if receiver is None:
            return False
        known = self._remembered.of(envelope.message_id, envelope.remember, self._clock())
        [connection_id] = envelope.recipients.ids
        if connection_id not in known:
            known[connection_id] = None
            receiver.deliver(envelope)
        return True

    def _tend(self, now: float) -> None:
        self._outboxes.tend(now)
        self._broadcasts.expire(now)

    def _started(self, id: str, outbox: MemoryOutbox, start: Start, now: float) -> Page:
        if start.mode == "resume":
            return self._continued(id, outbox, start.position, now)
        if start.mode == "fresh":
            return outbox.page("fresh", outbox.acknowledged)
        if start.mode == "acknowledge":
            outbox.acknowledge(outbox.top)
        return outbox.tip()

    def _continued(self, id: str, outbox: MemoryOutbox, position: Position | None, now: float) -> Page:
        if position is not None and outbox.holds(position):
            return outbox.page("resumed", position.sequence)
        if position is not None and self._outboxes.is_before(id, position, now):
            return outbox.page("forked", 0)._replace(ended=0)
        return outbox.page("reset", outbox.acknowledged)

    def _to_everybody(self, envelope: Envelope, known: Known, now: float) -> Receipt:
        if EVERYBODY in known:
            return Receipt(envelope.message_id, {}, len(self.holders.nodes))
        position = None
        if envelope.retention is not None:
            message = _stored_message(envelope, now, BROADCASTS.ttl)
            position, _ = self._broadcasts.push(message, BROADCASTS)
        known[EVERYBODY] = position
        sent = _sent(envelope, (), (position,) if position else ())
        for node in self.holders.nodes:
            node.deliver(sent)
        return Receipt(envelope.message_id, {}, len(self.holders.nodes))

    def _to_ids(self, envelope: Envelope, known: Known, now: float) -> Receipt:
        retention = envelope.retention
        message = _stored_message(envelope, now, retention.ttl) if retention else None
        deliveries: dict[str, Delivery] = {}
        new_ids: dict[MemoryNode, list[str]] = {}
        for id in envelope.recipients.ids:
            displaced, is_new = 0, id not in known
            if is_new:
                known[id] = None
                if retention and message:
                    known[id], displaced = self._outboxes.push(id, message, retention, self.holders.of(id))
            for node in self.holders.of(id):
                new_ids.setdefault(node, []).extend([id] if is_new else ())
            deliveries[id] = _delivery(self.holders.online(id), known[id], displaced)
        for node, ids in new_ids.items():
            if ids:
                positions = (known[id] for id in ids)
                node.deliver(_sent(envelope, ids, tuple(at for at in positions if at)))
        return Receipt(envelope.message_id, deliveries, len(new_ids))


def check_durabilities(envelopes: Sequence[Envelope]) -> None:
    """Refuse envelopes with a durability that memory does not offer.

    Raises:
        Unsupported: an envelope has another durability than `memory`.
    """
    for envelope in envelopes:
        check_durability("durability", envelope.durability)


def check_durability(name: str, durability: Durability) -> None:
    """Refuse a durability that memory does not offer; `name` is the name of the argument.

    Raises:
        Unsupported: it is not `memory`.
    """
    if durability != "memory":
        raise Unsupported(
            f"{name}: expected 'memory', got {durability!r}; messages and events that are stored in this "
            "process end with it, use Redis for more"
        )


def _stored_message(envelope: Envelope, now: float, ttl: float) -> StoredMessage:
    excluding = envelope.recipients.excluding
    return StoredMessage(now, now + ttl, envelope.message_id, envelope.body, excluding)


def _sent(envelope: Envelope, ids: Sequence[str], positions: tuple[Position, ...]) -> Envelope:
    """Return the message as a node receives it."""
    recipients = envelope.recipients._replace(ids=tuple(ids))
    return Envelope(recipients, envelope.body, envelope.kind, envelope.message_id, positions=positions)


def _delivery(online: int, position: Position | None, displaced: int) -> Delivery:
    if position is None:
        return Delivery(False, online, None if online else "offline")
    return Delivery(True, online, None, position, displaced)


class _Memory(NamedTuple):
    until: float
    known: Known


class _RememberedMessages:
    """Messages by their ids, each remembered for as long as its sender asked for."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._timetable: Timetable[str] = Timetable()

    def __len__(self) -> int:
        return len(self._memories)

    def of(self, message_id: str, seconds: float, now: float) -> Known:
        """Return the known recipients of a message; the caller adds others, remembered for `seconds`."""
        for forgotten in self._timetable.take(now, FORGOTTEN_AT_ONCE):
            del self._memories[forgotten]
        if not seconds:
            return {}
        memory = self._memories.get(message_id)
        if memory is None or memory.until <= now:
            memory = self._memories[message_id] = _Memory(now + seconds, {})
            self._timetable.put(message_id, memory.until)
        return memory.known
