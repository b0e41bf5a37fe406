"""Dispatches: envelopes to commands for Redis, replies to receipts."""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec

from ...concurrency.retry import LimitedWarning
from ...messages.envelope import Envelope, Retention
from ...messages.order import RETENTION, Order, record_name
from ...messages.receipt import Delivery, Position, Receipt
from ...settings import Durability
from ..outbox import BROADCASTS
from ..redis_client.batch import Operation
from ..redis_client.command import (
    MAX_IDS,
    MAX_OUTBOXES,
    Arguments,
    Call,
    Command,
    JointCommand,
    chunks,
    ms,
)
from ..redis_client.durability import Proof
from .keys import Keys
from .scripts import ANNOUNCE, BROADCAST, DISPATCH, RELAY, RELAY_MANY, REVOKE

_log = logging.getLogger("mesa_ws.backend")

_REFUSED_PUBLISH: dict[Keys, LimitedWarning] = {}
"""Warnings of each namespace; a process has few."""

_CORRUPT = Delivery(False, 0, "corrupt")

MAX_STORED = 256 * 1024
"""Bytes that one script call stores, unless it has a single recipient: it keeps Redis from all others."""


Outcome = tuple[Receipt, Sequence[str], bytes]
"""Of one dispatch: its receipt; the ids whose outbox was corrupt and was set aside, `*` for the messages to
everybody; why Redis refused to publish the stored message to nodes, empty if it did not."""


def message_args(keys: Keys, envelope: Envelope) -> Arguments:
    """Return the first arguments of every script that sends a message."""
    remember = ms(envelope.remember) if envelope.remember else 0
    return (keys.channels, envelope.kind, envelope.message_id, envelope.body, remember)


class DispatchCalls(msgspec.Struct, frozen=True, gc=False):
    """The commands that pass one envelope to nodes; without recipients there are none.

    Many recipients take several commands under one message id: each has `MAX_IDS` at most, or stores for
    `MAX_OUTBOXES` and `MAX_STORED`. They run one after another, so that others have their turn in between.
    Their deliveries are merged; a node that holds recipients of two commands receives the message twice,
    and the nodes of the command that has most of them count.
    """

    envelope: Envelope
    commands: Sequence[Command]
    begins: int = 0

    @classmethod
    def of(cls, keys: Keys, envelope: Envelope) -> "DispatchCalls":
        """Make the commands of one envelope."""
        if envelope.recipients.everybody:
            return cls(envelope, _to_everybody(keys, envelope))
        ids, retention = envelope.recipients.ids, envelope.retention
        if retention is None and not envelope.remember:
            return cls(envelope, _relays(keys, envelope, ids))
        shared = (keys.leases, keys.counters, keys.dispatches + envelope.message_id)
        args = message_args(keys, envelope)
        commands: list[Command] = []
        if retention is None:
            for some in chunks(ids, MAX_IDS):
                own, count = [keys.users + id for id in some], 3 + len(some)
                command = ("EVALSHA", RELAY.sha, count, *shared, *own, *args, envelope.delivery, *some)
                commands.append(command)
            return cls(envelope, commands)
        prefixes, limits = (keys.positions, keys.outboxes, keys.users), _limits(envelope, retention)
        for some in chunks(ids, max(1, min(MAX_OUTBOXES, MAX_STORED // (len(envelope.body) or 1)))):
            own = [prefix + id for id in some for prefix in prefixes]
            commands.append(("EVALSHA", DISPATCH.sha, 3 + len(own), *shared, *own, *args, *limits, *some))
        return cls(envelope, commands)

    def with_order(self, keys: Keys) -> "DispatchCalls":
        """Carry out the order of an event that ends connections first; its outcome does not count."""
        order = Order.of_event(self.envelope)
        first = DispatchCalls.of(keys, order).commands if order is not None else []
        return DispatchCalls(self.envelope, [*first, *self.commands], len(first))

    def replicas(self, replies: Sequence[Any]) -> int:
        """Return how many replicas have to hold what `commands` stored, from their replies.

        Orders have to survive a failover, so all replicas that are online; there may be none.
        """
        if self.envelope.kind == "order":
            return int(replies[-1][1])
        if self.envelope.durability == "replicated":
            return min((reply[1] for reply in replies), default=0)
        return 0

    def outcome(self, replies: Sequence[Any]) -> Outcome:
        """Read the replies to `commands`."""
        envelope = self.envelope
        if self.begins:
            replies = replies[self.begins :]
        if envelope.recipients.everybody:
            return _outcome_for_everybody(envelope, replies[-1])
        if envelope.retention is None:
            return _relayed(envelope, replies), (), b""
        deliveries: dict[str, Delivery] = {}
        corrupt: list[str] = []
        ids, nodes, refusal = envelope.recipients.ids, 0, b""
        for count, _, problem, rest, *flat in replies:
            nodes, refusal = max(nodes, count), refusal or problem
            some = ids[len(deliveries) : len(deliveries) + len(flat) // 3]
            for sequence, epoch, online, id in zip(*[iter(flat)] * 3, some, strict=False):
                deliveries[id] = _delivery(sequence, epoch, online)
            for number, displaced, is_corrupt in zip(*[iter(rest)] * 3, strict=False):
                id = some[number - 1]
                deliveries[id] = deliveries[id]._replace(displaced=displaced)
                if is_corrupt:
                    corrupt.append(id)
        return Receipt(envelope.message_id, deliveries, nodes), corrupt, refusal


def _relays(keys: Keys, envelope: Envelope, ids: tuple[str, ...]) -> list[Command]:
    """Return the commands for a message that is neither stored nor known by its id."""
    shared, about = (keys.leases, keys.counters), (keys.channels, envelope.kind, envelope.delivery)
    users, message = keys.users, (envelope.message_id, envelope.body)
    commands: list[Command] = []
    for some in chunks(ids, MAX_IDS):
        own, count = [users + id for id in some], len(some)
        command = ("EVALSHA", RELAY_MANY.sha, 2 + count, *shared, *own, *about, *message, count, *some)
        commands.append(JointCommand(command))
    return commands


def _to_everybody(keys: Keys, envelope: Envelope) -> list[Command]:
    """Return the commands for a message or an order to all nodes."""
    is_order, retention = envelope.kind == "order", envelope.retention
    if retention is not None and not is_order:
        retention = BROADCASTS
    record = record_name(envelope) if is_order else envelope.message_id
    shared = (keys.leases, keys.counters, keys.dispatches + record)
    args, unsent = message_args(keys, envelope), msgspec.msgpack.encode(sorted(envelope.recipients.excluding))
    if retention is None:
        return [Call(BROADCAST, shared, (*args, unsent, envelope.delivery)).command]
    outbox = (keys.orders_position, keys.orders) if is_order else (keys.broadcast_position, keys.broadcasts)
    announce = Call(ANNOUNCE, (*shared, *outbox), (*args, *_limits(envelope, retention), unsent))
    return [*_revocations(keys, envelope, shared[-1]), announce.command]


def _limits(envelope: Envelope, retention: Retention) -> Arguments:
    """Return the arguments of scripts that store a message about how long, and how safely."""
    is_replicated = int(envelope.durability == "replicated")
    return (retention.max_messages, retention.max_bytes, ms(retention.ttl), is_replicated)


def _outcome_for_everybody(envelope: Envelope, reply: Any) -> Outcome:
    if envelope.retention is None:
        return Receipt(envelope.message_id, {}, reply), (), b""
    nodes, _, sequence, epoch, is_corrupt, refusal = reply
    given = {"*": _delivery(sequence, epoch, 0)} if envelope.kind == "order" else {}
    return Receipt(envelope.message_id, given, nodes), ["*"] if is_corrupt else [], refusal


def _relayed(envelope: Envelope, replies: Sequence[Any]) -> Receipt:
    """Read the replies for a message that is not stored, but may have been when it came before."""
    ids, nodes = envelope.recipients.ids, 0
    deliveries: dict[str, Delivery] = {}
    for reply in replies:
        some = ids[len(deliveries) : len(deliveries) + MAX_IDS]
        nodes = max(nodes, reply[0])
        for at, id in enumerate(some, 1):
            deliveries[id] = _relayed_to(reply[at])
        if len(reply) > 1 + len(some):
            deliveries.update(_stored_before(zip(some, reply[1:], reply[1 + len(some) :], strict=False)))
    return Receipt(envelope.message_id, deliveries, nodes)


def _stored_before(each: Iterable[tuple[str, int, bytes]]) -> Iterator[tuple[str, Delivery]]:
    """Read the texts of a record, for the ids that have one with a position."""
    for id, online, known in each:
        epoch, _, sequence = known.partition(b":")
        if sequence:
            yield id, _delivery(int(sequence), epoch, online)


@lru_cache(100)
def _relayed_to(online: int) -> Delivery:
    return _CORRUPT if online < 0 else _delivery(0, b"", online)


def _revocations(keys: Keys, envelope: Envelope, record: str) -> list[Command]:
    """Return the commands that keep a revocation for each of its ids, which logins look at.

    Args:
        keys: the names of keys.
        envelope: any; only an order to revoke has such commands.
        record: the key by which a repetition of the order is known.
    """
    order = Order.read(envelope.body) if envelope.kind == "order" else None
    if order is None or order.issued_before is None:
        return []
    args = (ms(RETENTION.ttl), repr(order.issued_before))
    return [
        Call(REVOKE, (record, *(keys.revocations + id for id in some)), args).command
        for some in chunks(order.ids, MAX_IDS)
    ]


def dispatching(keys: Keys, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
    """Pass envelopes to the nodes that hold a recipient, and store those with a retention.

    The operation is repeatable while Redis remembers all message ids: a repetition stores nothing twice.
    """
    dispatches: list[DispatchCalls] = []
    steps: list[int] = []
    levels: set[Durability] = set()
    known_for, start = math.inf, 0
    for envelope in envelopes:
        each = DispatchCalls.of(keys, envelope)
        if envelope.kind == "disconnect":
            each = each.with_order(keys)
        dispatches.append(each)
        end = start + len(each.commands)
        if end > start + each.begins + 1:
            steps += range(start + each.begins + 1, end)
        start = end
        known_for = min(known_for, envelope.remember)
        if envelope.kind == "order":
            levels.add("replicated")
        elif envelope.durability != "memory":
            levels.add(envelope.durability)
    is_one = len(dispatches) == 1
    commands = dispatches[0].commands if is_one else [one for each in dispatches for one in each.commands]
    proof = Proof(levels, partial(_replicas, dispatches)) if levels else None
    read = partial(_receipts, keys, dispatches)
    return Operation(commands, read, known_for > 0, proof, known_for, steps or ())


def warn_of_corruption(keys: Keys, ids: Iterable[str]) -> None:
    """Log which outboxes were corrupt, and the keys under which operators find them."""
    for id in ids:
        _log.warning(
            "the outbox of %r was corrupt and starts empty; its content was set aside under %r",
            id,
            keys.set_aside(id),
        )


def _receipts(keys: Keys, dispatches: Iterable[DispatchCalls], replies: Sequence[Any]) -> list[Receipt]:
    """Read the replies to all commands, and log what is wrong with Redis."""
    receipts, end = [], 0
    for dispatch in dispatches:
        start, end = end, end + len(dispatch.commands)
        receipt, corrupt, refusal = dispatch.outcome(replies[start:end])
        receipts.append(receipt)
        if corrupt:
            warn_of_corruption(keys, corrupt)
        if refusal:
            _REFUSED_PUBLISH.setdefault(keys, LimitedWarning()).warn(
                _log,
                "messages of namespace %r are stored, but Redis refuses to publish to %r (%s); they arrive "
                "late, when servers find the gap; grant the user that channel with ACL SETUSER",
                keys.namespace,
                f"{keys.channels}*",
                refusal.decode(errors="replace"),
            )
    return receipts


def _replicas(dispatches: Iterable[DispatchCalls], replies: Sequence[Any]) -> int:
    """Return how many replicas have to hold what was stored."""
    most = end = 0
    for each in dispatches:
        start, end = end, end + len(each.commands)
        most = max(most, each.replicas(replies[start:end]))
    return most


def _delivery(sequence: int, epoch: bytes, online: int) -> Delivery:
    """Return the delivery to one id; sequence 0 is a message that is not stored, or came before without."""
    if not sequence:
        return Delivery(False, max(online, 0), None if online > 0 else "offline")
    return Delivery(True, max(online, 0), None, Position(epoch.decode(), sequence))
