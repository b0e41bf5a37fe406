"""One namespace. Each method is one step that nothing comes between, as a script is in Redis."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from ...errors import Unsupported
from ...messages.envelope import Envelope
from ...messages.receipt import Delivery, OutboxHead, Position, Receipt, Stored
from ...settings import Durability
from ..outbox import BROADCASTS, Acknowledgement, Page, Read, Start
from ..pending import Pending
from .inbox import Inbox
from .node import Holders, Seat
from .outbox import Kept, Outbox, Outboxes, Timetable

AT_ONCE = 64
"""Ids that are forgotten in one step, at most."""

Known = dict[str, Position | None]
"""Whom a message was sent to, `*` among them, and where it is stored."""


class _Memory(NamedTuple):
    until: float
    known: Known


class Remembered:
    """Messages that were sent, for as long as each asked for."""

    def __init__(self) -> None:
        self._memories: dict[str, _Memory] = {}
        self._timetable: Timetable[str] = Timetable()

    def __len__(self) -> int:
        return len(self._memories)

    def of(self, message_id: str, seconds: float, now: float) -> Known:
        """What is known of a message; what the caller adds is remembered for `seconds`."""
        for forgotten in self._timetable.take(now, AT_ONCE):
            del self._memories[forgotten]
        if not seconds:
            return {}
        memory = self._memories.get(message_id)
        if memory is None or memory.until <= now:
            memory = self._memories[message_id] = _Memory(now + seconds, {})
            self._timetable.put(message_id, memory.until)
        return memory.known


EVERYBODY = "*"


class Cluster:
    """Nodes, whom they hold, and what is kept for ids and for everybody.

    Args:
        clock: tells the time in seconds of Unix time.

    Attributes:
        holders: which node holds whom.
        askers: whose requests wait for replies.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.holders = Holders()
        self.askers: dict[str, Pending] = {}
        self.inbox = Inbox(clock)
        self._clock = clock
        self._outboxes = Outboxes(self.holders.floor)
        self._broadcasts = Outbox()
        self._remembered = Remembered()

    def dispatch(self, envelope: Envelope) -> Receipt:
        """Store a message as it asks for, and hand it to the nodes that hold a recipient."""
        now = self._clock()
        self._look_after(now)
        known = self._remembered.of(envelope.message_id, envelope.remember, now)
        if envelope.recipients.everybody:
            return self._to_everybody(envelope, known, now)
        return self._to_ids(envelope, known, now)

    def attach(self, seat: Seat, id: str, sockets: int, start: Start | None) -> Page | None:
        """Take note of connections, and read from where the newest of them wants to start."""
        is_new = id not in seat.held
        holding = self.holders.hold(seat, id, sockets)
        if start is None:
            return None
        now = self._clock()
        self._look_after(now)
        is_unborn = self._outboxes.find(id, now) is None
        outbox = self._outboxes.use(id, now, seat.ttl)
        if start.is_wire2:
            self._outboxes.meet_wire2(id, seat.window, now)
        page = self._started(id, outbox, start, now)
        if is_unborn:
            holding.epoch = page.epoch
        holding.floor = page.start if is_new and sockets == 1 else min(holding.floor, page.start)
        self._outboxes.revisit(id)
        return page

    def detach(self, seat: Seat, id: str) -> None:
        """Take note that a node holds `id` no more."""
        self.holders.leave(seat, id)
        self._outboxes.revisit(id)

    def read(self, seat: Seat, read: Read) -> Page:
        """Read what follows a position."""
        now = self._clock()
        outbox = self._outboxes.use(read.id, now, seat.ttl)
        if read.is_wire2:
            self._outboxes.meet_wire2(read.id, seat.window, now)
        return self._continued(read.id, outbox, read.position, now)

    def acknowledge(self, seat: Seat, acknowledgement: Acknowledgement) -> None:
        """Forget what was received; what cannot be true is ignored."""
        id, position, floor = acknowledgement
        now = self._clock()
        outbox = self._outboxes.find(id, now)
        if outbox is None or not outbox.holds(position):
            return
        outbox = self._outboxes.use(id, now, seat.ttl)
        holding = seat.held.get(id)
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

    def heads(self, ids: Iterable[str]) -> dict[str, OutboxHead | None]:
        """Tell how far outboxes are."""
        now = self._clock()
        found = {id: self._outboxes.find(id, now) for id in ids}
        return {id: outbox.head if outbox else None for id, outbox in found.items()}

    def peek(self, id: str, limit: int) -> list[Stored]:
        """Show the first messages of an outbox."""
        outbox = self._outboxes.find(id, self._clock())
        return outbox.peek(limit) if outbox else []

    def purge(self, id: str) -> int:
        """Drop the messages of an outbox."""
        outbox = self._outboxes.find(id, self._clock())
        return outbox.purge() if outbox else 0

    def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection of a node, if that is here."""
        seat = next((seat for seat in self.holders.seats if seat.node == node), None)
        if seat is None:
            return False
        known = self._remembered.of(envelope.message_id, envelope.remember, self._clock())
        [connection_id] = envelope.recipients.ids
        if connection_id not in known:
            known[connection_id] = None
            seat.deliver(envelope)
        return True

    def _look_after(self, now: float) -> None:
        self._outboxes.look_after(now)
        self._broadcasts.expire(now)

    def _started(self, id: str, outbox: Outbox, start: Start, now: float) -> Page:
        if start.mode == "resume":
            return self._continued(id, outbox, start.position, now)
        if start.mode == "fresh":
            return outbox.page("fresh", outbox.acknowledged)
        if start.mode == "acknowledge":
            outbox.acknowledge(outbox.top)
        return outbox.tip()

    def _continued(self, id: str, outbox: Outbox, position: Position | None, now: float) -> Page:
        if position is not None and outbox.holds(position):
            return outbox.page("resumed", position.sequence)
        if position is not None and self._outboxes.is_before(id, position, now):
            return outbox.page("forked", 0)._replace(ended=0)
        return outbox.page("reset", outbox.acknowledged)

    def _to_everybody(self, envelope: Envelope, known: Known, now: float) -> Receipt:
        if EVERYBODY in known:
            return Receipt(envelope.message_id, {}, len(self.holders.seats))
        position = None
        if envelope.retention is not None:
            kept = _kept(envelope, now, BROADCASTS.ttl)
            position, _ = self._broadcasts.push(kept, BROADCASTS)
        known[EVERYBODY] = position
        sent = _sent(envelope, (), (position,) if position else ())
        for seat in self.holders.seats:
            seat.deliver(sent)
        return Receipt(envelope.message_id, {}, len(self.holders.seats))

    def _to_ids(self, envelope: Envelope, known: Known, now: float) -> Receipt:
        retention = envelope.retention
        kept = _kept(envelope, now, retention.ttl) if retention else None
        deliveries: dict[str, Delivery] = {}
        hints: dict[Seat, list[str]] = {}
        for id in envelope.recipients.ids:
            displaced, is_news = 0, id not in known
            if is_news:
                known[id] = None
                if retention and kept:
                    known[id], displaced = self._outboxes.push(id, kept, retention, self.holders.of(id))
            for seat in self.holders.of(id):
                hints.setdefault(seat, []).extend([id] if is_news else ())
            deliveries[id] = _delivery(self.holders.online(id), known[id], displaced)
        for seat, ids in hints.items():
            if ids:
                positions = (known[id] for id in ids)
                seat.deliver(_sent(envelope, ids, tuple(at for at in positions if at)))
        return Receipt(envelope.message_id, deliveries, len(hints))


def check_offered(envelopes: Sequence[Envelope]) -> None:
    """Refuse what memory cannot promise.

    Raises:
        Unsupported: more durability than that of this process is asked for.
    """
    for envelope in envelopes:
        check_durability("durability", envelope.durability)


def check_durability(name: str, durability: Durability) -> None:
    """Refuse what memory cannot promise; `name` is that of the argument.

    Raises:
        Unsupported: more durability than that of this process is asked for.
    """
    if durability != "memory":
        raise Unsupported(
            f"{name}: expected 'memory', got {durability!r}; what is stored in this process "
            "is gone with it, use Redis for more"
        )


def _kept(envelope: Envelope, now: float, ttl: float) -> Kept:
    excluding = envelope.recipients.excluding
    return Kept(now, now + ttl, envelope.message_id, envelope.body, excluding)


def _sent(envelope: Envelope, ids: Sequence[str], positions: tuple[Position, ...]) -> Envelope:
    """The message as a node receives it."""
    recipients = envelope.recipients._replace(ids=tuple(ids))
    return Envelope(recipients, envelope.body, envelope.kind, envelope.message_id, positions=positions)


def _delivery(online: int, position: Position | None, displaced: int) -> Delivery:
    if position is None:
        return Delivery(False, online, None if online else "offline")
    return Delivery(True, online, None, position, displaced)
