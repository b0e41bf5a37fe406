"""One namespace in memory. Each method is one atomic step, as a script is in Redis."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ...errors import Unsupported
from ...messages.envelope import Envelope
from ...messages.order import RETENTION, Order, OrderStatus, record_name
from ...messages.receipt import Delivery, Position, Receipt
from ...messages.recipients import check_id
from ...settings import Durability
from ..outbox import BROADCASTS
from ..pending import Pending
from ..queries import (
    CarriedOut,
    ConnectionCount,
    Heads,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
)
from .inbox import MemoryInbox
from .node import Holders, MemoryNode
from .outbox import MemoryOutbox, Outboxes, StoredMessage, Timetable

FORGOTTEN_AT_ONCE = 64
"""Largest number of message ids that are forgotten in one step."""

EVERYBODY = "*"

Known = dict[str, Position | None]
"""Recipients of a message, `*` among them, each with the position at which the message is stored."""


class _RememberedMessage(NamedTuple):
    until: float
    known: Known


class Cluster:
    """Nodes and their connections, outboxes and the inbox of one namespace.

    Args:
        clock: returns the time in seconds of Unix time.

    Attributes:
        clock: returns the time in seconds of Unix time.
        holders: the nodes, and the connections of all ids on them.
        outboxes: messages to ids.
        broadcasts: messages to everybody.
        orders: orders to all nodes.
        revocations: id -> the time up to which its logins are revoked, and when that is forgotten.
        requesters: requester -> its pending requests.
        inbox: the events for portals.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.holders = Holders()
        self.outboxes = Outboxes(self.holders)
        self.broadcasts = MemoryOutbox()
        self.orders = MemoryOutbox()
        self.revocations: dict[str, tuple[float, float]] = {}
        self.requesters: dict[str, Pending] = {}
        self.inbox = MemoryInbox(clock)
        self._remembered: dict[str, _RememberedMessage] = {}
        self._forgetting: Timetable[str] = Timetable()

    @property
    def newest_order(self) -> Position | None:
        """The position of the newest order; None if there was none."""
        return Position(self.orders.epoch, self.orders.top) if self.orders.top else None

    def dispatch(self, envelope: Envelope) -> Receipt:
        """Store a message if it has a retention, and deliver it to the nodes that hold a recipient."""
        order = Order.of_event(envelope)
        if order is not None:
            self.dispatch(order)
        now = self.drop_expired()
        known = self._known(envelope, now)
        if envelope.recipients.everybody:
            return self._to_everybody(envelope, known, now)
        return self._to_ids(envelope, known, now)

    def answer(self, query: Query[Any]) -> Any:  # noqa: PLR0911 - one for each kind
        """Return the answer to a query."""
        now, holders = self.clock(), self.holders
        match query:
            case Online(ids):
                return {id: holders.online(id) for id in ids}
            case OnlineCount():
                return len(holders)
            case OnlineIds(cursor):
                return holders.page(cursor)
            case ConnectionCount():
                return sum(node.connections for node in holders.nodes)
            case CarriedOut(position):
                return self._progress(position)
            case Heads(ids):
                found = {id: self.outboxes.find(id, now) for id in ids}
                return {id: outbox.head if outbox else None for id, outbox in found.items()}
            case Peek(id, limit):
                outbox = self.outboxes.find(id, now)
                return outbox.peek(limit) if outbox else []
        raise NotImplementedError(query)

    async def request(self, request: Envelope, timeout: float, pending: Pending) -> bytes:
        """Send a request to the connections of one id, and wait for an answer."""
        requester = request.message_id

        async def ask(addressed: Envelope) -> Receipt:
            return self.dispatch(addressed)

        self.requesters[requester] = pending
        try:
            return await pending.ask(request, requester, timeout, ask)
        finally:
            del self.requesters[requester]

    def purge(self, id: str) -> int:
        """Drop all messages of an outbox, and return their number."""
        outbox = self.outboxes.find(check_id(id), self.clock())
        return outbox.purge() if outbox else 0

    def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection of a node; return whether that node is open."""
        receiver = next((each for each in self.holders.nodes if each.name == node), None)
        if receiver is None:
            return False
        known = self._known(envelope, self.clock())
        [connection_id] = envelope.recipients.ids
        if connection_id not in known:
            known[connection_id] = None
            receiver.deliver(envelope)
        return True

    def drop_expired(self) -> float:
        """Drop messages that are due; return the time."""
        now = self.clock()
        self.outboxes.drop_expired(now)
        self.broadcasts.expire(now)
        self.orders.expire(now)
        while self.revocations and self.revocation(next(iter(self.revocations)), now) is None:
            pass  # which has forgotten it
        return now

    def _known(self, envelope: Envelope, now: float) -> Known:
        """Return the known recipients of a message, remembered as its sender asked; callers add others."""
        for forgotten in self._forgetting.take(now, FORGOTTEN_AT_ONCE):
            del self._remembered[forgotten]
        if not envelope.remember:
            return {}
        name = record_name(envelope)
        message = self._remembered.get(name)
        if message is None or message.until <= now:
            message = _RememberedMessage(now + envelope.remember, {})
            self._remembered[name] = message
            self._forgetting.put(name, message.until)
        return message.known

    def _to_everybody(self, envelope: Envelope, known: Known, now: float) -> Receipt:
        if EVERYBODY not in known:
            position = known[EVERYBODY] = self._announce(envelope, now)
            sent = _sent(envelope, (), (position,) if position else ())
            for node in self.holders.nodes:
                node.deliver(sent)
        deliveries: dict[str, Delivery] = {}
        if envelope.kind == "order":
            deliveries[EVERYBODY] = Delivery(True, 0, None, known[EVERYBODY])
        return Receipt(envelope.message_id, deliveries, len(self.holders.nodes))

    def _announce(self, envelope: Envelope, now: float) -> Position | None:
        """Store what is to everybody, if it has a retention; return its position."""
        if envelope.retention is None:
            return None
        is_order = envelope.kind == "order"
        outbox, retention = (self.orders, RETENTION) if is_order else (self.broadcasts, BROADCASTS)
        if is_order:
            self._revoke(Order.read(envelope.body), now)
        position, _ = outbox.push(_stored_message(envelope, now, retention.ttl), retention)
        return position

    def _progress(self, position: Position) -> OrderStatus:
        """Say which nodes have carried out an order; one of an earlier life of this process is done."""
        is_over = position.epoch != self.orders.epoch
        done: dict[bool, list[str]] = {True: [], False: []}
        for node in self.holders.nodes:
            done[is_over or node.carried_out >= position.sequence].append(node.name)
        return OrderStatus(tuple(done[True]), tuple(done[False]))

    def _revoke(self, order: Order | None, now: float) -> None:
        if order is None or order.issued_before is None:
            return
        for id in order.ids:
            until, _ = self.revocation(id, now) or (order.issued_before, 0.0)
            self.revocations.pop(id, None)  # those that are forgotten first come first
            self.revocations[id] = (max(until, order.issued_before), now + RETENTION.ttl)

    def revocation(self, id: str, now: float) -> tuple[float, float] | None:
        """Return the revocation of an id, unless it is so old that it counts no more."""
        found = self.revocations.get(id)
        if found is not None and found[1] <= now:
            del self.revocations[id]
            return None
        return found

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
                    known[id], displaced = self.outboxes.push(id, message, retention)
            for node in self.holders.of(id):
                new_ids.setdefault(node, []).extend([id] if is_new else ())
            online, position = self.holders.online(id), known[id]
            dropped = None if online or position else "offline"
            deliveries[id] = Delivery(position is not None, online, dropped, position, displaced)
        for node, ids in new_ids.items():
            if ids:
                positions = (known[id] for id in ids)
                node.deliver(_sent(envelope, ids, tuple(at for at in positions if at)))
        return Receipt(envelope.message_id, deliveries, len(new_ids))


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
    recipients = msgspec.structs.replace(envelope.recipients, ids=tuple(ids))
    return Envelope(
        recipients,
        envelope.body,
        envelope.kind,
        envelope.message_id,
        positions=positions,
        delivery=envelope.delivery,
    )
