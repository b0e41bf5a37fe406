"""Commands for the inbox and for portals, and the meaning of their replies. No I/O."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ...messages.envelope import REMEMBERED, Envelope
from ...settings import Durability
from ..inbox import (
    GUARANTEED_EVENTS,
    MAX_CONNECTION_WEIGHT,
    MAX_DEAD,
    MAX_KEPT,
    MAX_READ,
    PARTITIONS,
    AppendResult,
    Backlog,
    Capacity,
    DeadLetter,
    InboxEvent,
    Ownership,
    QueueBacklog,
    Step,
    WaitingEvent,
    read_limit,
    steps_of_queues,
    weight_of,
)
from ..redis_client.command import Call, Command, ms
from ..redis_client.durability import Proof
from ..redis_wire.timing import EXPIRY
from .keys import BACKLOG_LIFE, DEAD_LIFE, Keys
from .node_commands import NodeCommands, reap
from .scripts import APPEND, OVERHEAR, REPLY, REVIVE, SETTLE, SURVEY, TEND

START = "0-0"
"""Offset before all events."""

WAIT = 0.1
"""Seconds that a read waits for events."""

_FIELDS = [b"c", b"s", b"k", b"i", b"n", b"t", b"d"]
"""Names of the fields of an event, in the order in which inbox.lua writes them."""

_TIME, _PARTITION = 11, 15
"""Indexes in such an entry: of the time, and of the partition that observers read."""

_SETTLING = (ms(BACKLOG_LIFE), ms(DEAD_LIFE), MAX_DEAD, MAX_KEPT, ms(REMEMBERED))
"""Limits that settle.lua gets."""

_ANSWERS: tuple[AppendResult, ...] = ("taken", "full", "unknown", "gone")

_ADVICE = "it is sent again"
"""Advice of the error when it is unknown whether an event, or steps, are durable enough."""


def proof(durability: Durability) -> Proof | None:
    """Return the proof to wait for after `append` and `settle`; None for durability `memory`."""
    return Proof((durability,), _replicas, _ADVICE) if durability != "memory" else None


def _replicas(replies: Sequence[Any]) -> int:
    return max((reply[0] for reply in replies if reply), default=0)


def _wanted(durability: Durability) -> int:
    """Return how many replicas have to be online."""
    return int(durability == "replicated")


def append(
    commands: NodeCommands, events: Sequence[tuple[InboxEvent, Capacity]], durability: Durability = "memory"
) -> Call:
    """Append events to their queues, each with the capacity of its queue."""
    keys = commands.keys
    shared = (keys.leases, keys.connections(commands.node), keys.observers, keys.observed)
    names = (key for each, _ in events for key in (keys.queue(each.partition), keys.weights(each.partition)))
    parts: list[str | bytes | int] = []
    for each, capacity in events:
        parts += (
            each.connection_id,
            each.partition,
            each.sequence,
            each.kind,
            each.id or "",
            each.data,
            weight_of(each.data),
            capacity.events,
            capacity.bytes,
        )
    limits = (
        ms(commands.expiry),
        ms(BACKLOG_LIFE),
        GUARANTEED_EVENTS,
        MAX_CONNECTION_WEIGHT,
        _wanted(durability),
    )
    return Call(APPEND, (*shared, *names), (commands.node, *limits, *parts))


def answers(reply: Sequence[int]) -> list[AppendResult]:
    """Read the reply to `append`."""
    return [_ANSWERS[number - 1] for number in reply[1:]]


class TendReply(NamedTuple):
    """Reply to `tend`.

    Attributes:
        dead: number of nodes whose leases ran out, so that their connections have to be ended.
        ownership: the living portals, and the partitions that this one owns.
    """

    dead: int
    ownership: Ownership


class PortalCommands(NamedTuple):
    """Commands of one portal.

    Args:
        keys: names of the namespace.
        portal: id of the portal.
        lease: seconds that a heartbeat lasts.
        durability: durability that steps have to reach.
    """

    keys: Keys
    portal: str
    lease: float
    durability: Durability = "memory"

    def tend(self, wanted: Collection[int], *, stays: bool) -> Call:
        """Renew the lease, and own the wanted partitions; `tend_reply` reads the reply."""
        numbers = range(PARTITIONS)
        shared = (self.keys.portals, self.keys.tokens, self.keys.leases, self.keys.observers, self.keys.signs)
        wishes: list[str | bytes | int] = [int(number in wanted) for number in numbers]
        args = (self.portal, ms(self.lease), ms(EXPIRY), int(stays), *wishes)
        return Call(TEND, (*shared, *map(self.keys.owner, numbers)), args)

    def reap(self) -> Call:
        """End connections of a node that died; the reply is 1 when there may be more."""
        return reap(self.keys, "", ms(EXPIRY), 0)

    def read(self, after: Mapping[int, str]) -> Command:
        """Wait for events; `events` reads the reply."""
        names, offsets = map(self.keys.queue, after), (offset or START for offset in after.values())
        return ("XREAD", "COUNT", read_limit(len(after)), "BLOCK", ms(WAIT), "STREAMS", *names, *offsets)

    def events(self, reply: Any) -> list[WaitingEvent]:
        """Read the reply to `read`; entries that are no events are skipped."""
        prefix = len(self.keys.queues)
        return [
            waiting
            for name, entries in reply or ()
            for entry in entries
            if (waiting := _waiting(entry, name.decode()[prefix:])) is not None
        ]

    def settle(self, steps: Sequence[Step]) -> Call:
        """Apply steps, one queue after another; `settled` reads the reply."""
        keys: list[str] = [self.keys.dead, self.keys.rejected]
        parts: list[str | int] = [self.portal, *_SETTLING, _wanted(self.durability)]
        for partition, token, attempt, together in steps_of_queues(steps):
            sent = [self.keys.done(message_id) for step in together for message_id in step.message_ids]
            keys += (self.keys.owner(partition), self.keys.queue(partition))
            keys += (self.keys.deliveries(partition), self.keys.weights(partition), *sent)
            parts += (partition, token, attempt, len(sent), len(together))
            for step in together:
                parts += _step_args(step)
        return Call(SETTLE, tuple(keys), tuple(parts))

    def overhear(self) -> Call:
        """Renew the lease of an observer; the reply is the end of the stream."""
        keys = (self.keys.observers, self.keys.observed)
        return Call(OVERHEAR, keys, (self.portal, ms(self.lease), ms(EXPIRY)))

    def listen(self, after: str) -> Command:
        """Wait for events on the observers' stream; `overheard` reads the reply."""
        return ("XREAD", "COUNT", MAX_READ, "BLOCK", ms(WAIT), "STREAMS", self.keys.observed, after)

    def reply(self, envelope: Envelope, node: str) -> Call:
        """Send a message to one connection; the reply is 1 when its node lives."""
        keys = (self.keys.leases, self.keys.counters, self.keys.done(envelope.message_id))
        about = (self.keys.channels, ms(EXPIRY), envelope.kind, envelope.message_id, envelope.body)
        remember = ms(envelope.remember) if envelope.remember else 0
        return Call(REPLY, keys, (*about, remember, node, envelope.recipients.ids[0]))


def _step_args(step: Step) -> tuple[str | int, ...]:
    if step.action == "begin":
        return (step.action, step.offset)
    taken = (step.action, step.offset, step.connection_id, step.weight)
    return (*taken, step.reason) if step.action == "die" else taken


def settled(reply: Sequence[int]) -> Sequence[int]:
    """Read the reply to `PortalCommands.settle`: the result of each step."""
    return reply[1:]


def tend_reply(reply: Sequence[Any]) -> TendReply:
    """Read the reply to `PortalCommands.tend`."""
    dead, portals, *tokens = reply
    owned = {number: token for number, token in enumerate(tokens) if token}
    return TendReply(dead, Ownership(tuple(portal.decode() for portal in portals), owned))


def overheard(reply: Any) -> list[WaitingEvent]:
    """Read the reply to `PortalCommands.listen`."""
    entries = reply[0][1] if reply else ()
    return [found for entry in entries if (found := _waiting(entry)) is not None]


def survey(keys: Keys) -> Call:
    """Read the backlog of portals; `surveyed` reads the reply."""
    queues = (key for number in range(PARTITIONS) for key in (keys.owner(number), keys.queue(number)))
    return Call(SURVEY, (keys.portals, keys.dead, keys.rejected, *queues), ())


def surveyed(reply: Sequence[Any]) -> Backlog:
    """Read the reply to `survey`."""
    portals, dead, rejected, *queues = reply
    return Backlog(
        tuple(portal.decode() for portal in portals),
        tuple(
            QueueBacklog(number, owner.decode() or None, waiting, int(oldest) / 1000 if oldest else None)
            for number, (owner, waiting, oldest) in enumerate(queues)
        ),
        dead,
        rejected,
    )


def dead_letters(keys: Keys, limit: int) -> Command:
    """Read the oldest dead letters; `dead` reads the reply."""
    return ("XRANGE", keys.dead, "-", "+", "COUNT", limit)


def dead(reply: Any) -> list[DeadLetter]:
    """Read the reply to `dead_letters`."""
    return [found for entry in reply if (found := _dead(*entry)) is not None]


def revive(keys: Keys, places: Sequence[str]) -> Call:
    """Put dead letters back into their queues; the reply is their number."""
    return Call(REVIVE, (keys.dead,), (keys.queues, ms(BACKLOG_LIFE), *places))


def drop(keys: Keys, places: Sequence[str]) -> Command:
    """Delete dead letters; the reply is their number."""
    return ("XDEL", keys.dead, *places)


def _waiting(entry: Any, partition: str | None = None) -> WaitingEvent | None:
    place, flat = entry
    if flat is None:  # the entry was deleted during the read
        return None
    try:
        number = int(flat[_PARTITION] if partition is None else partition)
        return WaitingEvent(place.decode(), int(flat[_TIME]) / 1000, _event(flat, number))
    except (IndexError, ValueError):
        return None


def _dead(place: bytes, flat: Sequence[bytes]) -> DeadLetter | None:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    try:
        event = _event(flat, int(fields[b"p"]))
        died = int(place.split(b"-")[0]) / 1000
        reason = fields[b"r"].decode(errors="replace")
        return DeadLetter(place.decode(), died, int(fields[b"y"]), reason, int(fields[b"t"]) / 1000, event)
    except (KeyError, ValueError):
        return None


def _event(flat: Sequence[bytes], partition: int) -> InboxEvent:
    if flat[:14:2] != _FIELDS:
        raise ValueError("no event")
    connection_id, sequence, kind, id, node, _, data = flat[1:14:2]
    return InboxEvent(
        connection_id.decode(),
        partition,
        sequence.decode(),
        kind.decode(),  # type: ignore[arg-type]  # append.lua and reap.lua write no others
        id.decode() or None,
        node.decode(),
        data,
    )
