"""Dispatches: envelopes to commands for Redis, replies to receipts."""

import logging
import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from ...concurrency.retry import LimitedWarning
from ...messages.envelope import Envelope
from ...messages.order import RETENTION, Order, record_name
from ...messages.receipt import Delivery, Position, Receipt
from ..outbox import BROADCASTS
from ..redis_client.batch import Operation
from ..redis_client.command import MAX_IDS, Arguments, Command, Script, chunks, ms
from ..redis_client.durability import Proof
from .keys import Keys
from .scripts import ANNOUNCE, BROADCAST, DISPATCH, RELAY, REVOKE

_log = logging.getLogger("mesa_ws.backend")

_REFUSED_PUBLISH: dict[Keys, LimitedWarning] = {}
"""Warnings of each namespace; a process has few."""

_CORRUPT = Delivery(False, 0, "corrupt")


class Outcome(NamedTuple):
    """The replies to the commands of one dispatch.

    Attributes:
        receipt: for the dispatcher.
        corrupt: ids whose outbox was corrupt and was set aside; `*` for the messages to everybody.
        refusal: why Redis refused to publish the stored message to nodes; empty if it did not.
    """

    receipt: Receipt
    corrupt: Sequence[str] = ()
    refusal: bytes = b""


def message_args(keys: Keys, envelope: Envelope) -> Arguments:
    """Return the first arguments of every script that sends a message."""
    remember = ms(envelope.remember) if envelope.remember else 0
    return (keys.channels, envelope.kind, envelope.message_id, envelope.body, remember)


class DispatchCalls(NamedTuple):
    """The commands that pass one envelope to nodes; without recipients there are none.

    More than `MAX_IDS` recipients take several commands under one message id. Their deliveries are
    merged; a node that holds recipients of two commands receives the message, and counts, twice.
    """

    envelope: Envelope
    commands: Sequence[Command]
    begins: int = 0

    @classmethod
    def of(cls, keys: Keys, envelope: Envelope) -> "DispatchCalls":
        """Make the commands of one envelope."""
        is_to_everybody, ids, excluding = envelope.recipients
        retention = envelope.retention
        if retention is not None and is_to_everybody and envelope.kind != "order":
            retention = BROADCASTS
        record = record_name(envelope) if envelope.kind == "order" else envelope.message_id
        shared = (keys.leases, keys.counters, keys.dispatches + record)
        args = message_args(keys, envelope)
        if retention is not None:
            limits = (retention.max_messages, retention.max_bytes, ms(retention.ttl))
            args = (*args, *limits, int(envelope.durability == "replicated"))
        if is_to_everybody:
            script = BROADCAST if retention is None else ANNOUNCE
            own = [] if retention is None else [keys.broadcast_position, keys.broadcasts]
            if envelope.kind == "order":
                own = [keys.orders_position, keys.orders]
            unsent = msgspec.msgpack.encode(sorted(excluding))
            more = [unsent] if retention is not None else [unsent, envelope.delivery]
            announce = _command(script, [*shared, *own], [*args, *more])
            return cls(envelope, [*_revocations(keys, envelope, shared[-1]), announce])
        script = RELAY if retention is None else DISPATCH
        if retention is None:
            args = (*args, envelope.delivery)
        prefixes = (keys.users,) if retention is None else (keys.positions, keys.outboxes, keys.users)
        commands = []
        for start in range(0, len(ids), MAX_IDS):
            some = ids[start : start + MAX_IDS]
            own = [prefix + id for id in some for prefix in prefixes]
            commands.append(_command(script, [*shared, *own], [*args, *some]))
        return cls(envelope, commands)

    def after(self, order: "DispatchCalls") -> "DispatchCalls":
        """Carry out an order first, whose outcome does not count."""
        return self._replace(commands=[*order.commands, *self.commands], begins=len(order.commands))

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
        envelope, replies = self.envelope, replies[self.begins :]
        if envelope.recipients.everybody:
            if envelope.retention is None:
                return Outcome(Receipt(envelope.message_id, {}, replies[0]))
            nodes, _, sequence, epoch, is_corrupt, refusal = replies[-1]
            given = {"*": _delivery(sequence, epoch, 0, 0)} if envelope.kind == "order" else {}
            return Outcome(Receipt(envelope.message_id, given, nodes), ["*"] if is_corrupt else [], refusal)
        nodes = sum(reply[0] for reply in replies)
        if envelope.retention is None:
            return Outcome(Receipt(envelope.message_id, self._relayed(replies), nodes))
        flat = [value for reply in replies for value in reply[3:]]
        deliveries, corrupt = {}, []
        for id, at in zip(envelope.recipients.ids, range(0, len(flat), 5), strict=True):
            sequence, epoch, online, displaced, is_corrupt = flat[at : at + 5]
            deliveries[id] = _delivery(sequence, epoch, online, displaced)
            if is_corrupt:
                corrupt.append(id)
        refusal = next((reply[2] for reply in replies if reply[2]), b"")
        return Outcome(Receipt(envelope.message_id, deliveries, nodes), corrupt, refusal)

    def _relayed(self, replies: Sequence[Any]) -> dict[str, Delivery]:
        """Read the replies for a message that is not stored, but may have been when it came before."""
        deliveries: dict[str, Delivery] = {}
        for number, (_, *values) in enumerate(replies):
            ids = self.envelope.recipients.ids[MAX_IDS * number : MAX_IDS * (number + 1)]
            counts, before = values[: len(ids)], values[len(ids) :] or [b""] * len(ids)
            for id, online, known in zip(ids, counts, before, strict=True):
                epoch, _, sequence = known.partition(b":")
                if sequence:
                    deliveries[id] = _delivery(int(sequence), epoch, online, 0)
                else:
                    deliveries[id] = _CORRUPT if online < 0 else _delivery(0, b"", online, 0)
        return deliveries


def _calls(keys: Keys, envelope: Envelope) -> DispatchCalls:
    """Return the commands of an envelope; an event that ends connections is an order, too."""
    calls = DispatchCalls.of(keys, envelope)
    order = Order.of_event(envelope) if envelope.kind == "disconnect" else None
    return calls if order is None else calls.after(DispatchCalls.of(keys, order))


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
        _command(REVOKE, [record, *(keys.revocations + id for id in some)], args)
        for some in chunks(order.ids, MAX_IDS)
    ]


def dispatching(keys: Keys, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
    """Pass envelopes to the nodes that hold a recipient, and store those with a retention.

    The operation is repeatable while Redis remembers all message ids: a repetition stores nothing twice.
    """
    dispatches = [_calls(keys, envelope) for envelope in envelopes]
    known_for = min((each.envelope.remember for each in dispatches), default=math.inf)
    levels = {each.envelope.durability for each in dispatches} - {"memory"}
    if any(each.envelope.kind == "order" for each in dispatches):
        levels.add("replicated")
    return Operation(
        [command for each in dispatches for command in each.commands],
        partial(_receipts, keys, dispatches),
        known_for > 0,
        Proof(levels, partial(_replicas, dispatches)) if levels else None,
        known_for,
    )


def warn_of_corruption(keys: Keys, ids: Iterable[str]) -> None:
    """Log which outboxes were corrupt, and the keys under which operators find them."""
    for id in ids:
        _log.warning(
            "the outbox of %r was corrupt and starts empty; its content was set aside under %r",
            id,
            keys.set_aside(id),
        )


def _command(script: Script, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Command:
    return ("EVALSHA", script.sha, len(keys), *keys, *args)


def _receipts(keys: Keys, dispatches: Iterable[DispatchCalls], replies: Sequence[Any]) -> list[Receipt]:
    """Read the replies to all commands, and log what is wrong with Redis."""
    receipts = []
    for dispatch, own in _dealt(dispatches, replies):
        receipt, corrupt, refusal = dispatch.outcome(own)
        receipts.append(receipt)
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
    return max((each.replicas(own) for each, own in _dealt(dispatches, replies)), default=0)


def _dealt(
    dispatches: Iterable[DispatchCalls], replies: Iterable[Any]
) -> list[tuple[DispatchCalls, list[Any]]]:
    """Return each dispatch with the replies to its own commands."""
    rest = iter(replies)
    return [(each, list(islice(rest, len(each.commands)))) for each in dispatches]


def _delivery(sequence: int, epoch: bytes, online: int, displaced: int) -> Delivery:
    """Return the delivery to one id; sequence 0 is a message that is not stored, or came before without."""
    if not sequence:
        return Delivery(False, max(online, 0), None if online > 0 else "offline")
    return Delivery(True, max(online, 0), None, Position(epoch.decode(), sequence), displaced)
