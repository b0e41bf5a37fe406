"""Dispatches: envelopes to commands for Redis, replies to receipts."""

import logging
import math
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from ...concurrency.retry import LimitedWarning
from ...messages.envelope import Envelope, Retention
from ...messages.receipt import Delivery, Position, Receipt
from ..outbox import BROADCASTS
from ..redis_client.command import MAX_IDS, Call, Command, chunks, ms
from ..redis_client.durability import Proof
from ..redis_client.pipeline import Operation
from ..redis_wire.timing import EXPIRY
from .keys import Keys, outbox_keys, user_keys
from .scripts import ANNOUNCE, BROADCAST, DISPATCH, RELAY

_log = logging.getLogger("mesa_ws.backend")

_REFUSED_PUBLISH: dict[Keys, LimitedWarning] = {}
"""Warnings of each namespace; a process has few."""

_CORRUPT = Delivery(False, 0, "corrupt")


def dispatching(keys: Keys, envelopes: Iterable[Envelope]) -> Operation[list[Receipt]]:
    """Pass envelopes to the nodes that hold a recipient, and store those with a retention."""
    envelopes = tuple(envelopes)
    dispatches = Dispatches.of(keys, envelopes)
    levels = {each.durability for each in envelopes} - {"memory"}
    known_for = remembered_for(envelopes)
    return Operation(
        dispatches.commands,
        partial(_receipts, keys, dispatches),
        known_for > 0,
        Proof(levels, dispatches.replicas) if levels else None,
        known_for,
    )


def remembered_for(envelopes: Iterable[Envelope]) -> float:
    """Return the seconds for which Redis recognizes all of these envelopes; 0 if it does not."""
    return min((each.remember for each in envelopes), default=math.inf)


def warn_of_corruption(keys: Keys, ids: Iterable[str]) -> None:
    """Log which outboxes were corrupt, and the keys under which operators find them."""
    for id in ids:
        _log.warning(
            "the outbox of %r was corrupt and starts empty; its content was set aside under %r",
            id,
            keys.set_aside(id),
        )


def warn_of_refused_publish(keys: Keys, why: str) -> None:
    """Log, once a minute, that Redis refuses to publish stored messages to nodes."""
    if why:
        _REFUSED_PUBLISH.setdefault(keys, LimitedWarning()).warn(
            _log,
            "messages of namespace %r are stored, but Redis refuses to publish to %r (%s); they arrive late, "
            "when servers find the gap; grant the user that channel with ACL SETUSER",
            keys.namespace,
            f"{keys.channels}*",
            why,
        )


class DispatchCalls(NamedTuple):
    """The calls that pass one envelope to nodes.

    More than `MAX_IDS` recipients take several calls under one message id. Their deliveries are
    merged; a node that holds recipients of two calls receives the message, and counts, twice.
    """

    envelope: Envelope
    calls: tuple[Call, ...]

    @classmethod
    def of(cls, keys: Keys, envelope: Envelope) -> "DispatchCalls":
        """Make the calls of one envelope; without recipients there are none."""
        shared = (keys.leases, keys.counters, keys.done(envelope.message_id))
        about = (keys.channels, ms(EXPIRY), envelope.kind, envelope.message_id, envelope.body)
        if envelope.retention is None:
            how: tuple[int, ...] = (_remember(envelope),)
        else:
            replicas = int(envelope.durability == "replicated")
            retention = BROADCASTS if envelope.recipients.everybody else envelope.retention
            how = (*_limits(retention), _remember(envelope), replicas)
        if envelope.recipients.everybody:
            script = BROADCAST if envelope.retention is None else ANNOUNCE
            own = () if envelope.retention is None else (keys.broadcast_position, keys.broadcasts)
            return cls(envelope, (Call(script, (*shared, *own), (*about, *how, *_excluded(envelope))),))
        script, named = (RELAY, user_keys) if envelope.retention is None else (DISPATCH, outbox_keys)
        calls = (
            Call(script, (*shared, *named(keys, ids)), (*about, *how, *ids))
            for ids in chunks(envelope.recipients.ids, MAX_IDS)
        )
        return cls(envelope, tuple(calls))

    def receipt(self, replies: Sequence[Any]) -> Receipt:
        """Read the replies to `calls`."""
        envelope = self.envelope
        if envelope.recipients.everybody:
            return Receipt(
                envelope.message_id, {}, replies[0] if envelope.retention is None else replies[0][0]
            )
        nodes = sum(reply[0] for reply in replies)
        if envelope.retention is None:
            return self._relayed(replies, nodes)
        found = (each for reply in replies for each in chunks(reply[3:], 5))
        deliveries = (_delivery(*each) for each in found)
        return Receipt(
            envelope.message_id, dict(zip(envelope.recipients.ids, deliveries, strict=True)), nodes
        )

    def _relayed(self, replies: Sequence[Any], nodes: int) -> Receipt:
        """Read the replies for a message that is not stored, but may have been when it came before."""
        online: dict[str, int] = {}
        special: dict[str, Delivery] = {}
        for ids, reply in zip(chunks(self.envelope.recipients.ids, MAX_IDS), replies, strict=True):
            counts, before = reply[1 : 1 + len(ids)], reply[1 + len(ids) :]
            online.update(zip(ids, counts, strict=True))
            special |= {id: _CORRUPT for id, count in zip(ids, counts, strict=True) if count < 0}
            for id, count, text in zip(ids, counts, before, strict=False):
                epoch, _, sequence = text.partition(b":")
                if sequence:
                    special[id] = _delivery(int(sequence), epoch, count, 0, 0)
        receipt = Receipt.of(self.envelope.message_id, online, nodes)
        return receipt._replace(deliveries={**receipt.deliveries, **special}) if special else receipt

    def replicas(self, replies: Sequence[Any]) -> int:
        """Return how many replicas at least were online when it was stored; 0 if it is not stored."""
        return 0 if self.envelope.retention is None else min((reply[1] for reply in replies), default=0)

    def corrupt(self, replies: Sequence[Any]) -> list[str]:
        """Return the ids whose outbox was corrupt and was set aside; `*` for the shared one."""
        if self.envelope.retention is None:
            return []
        if self.envelope.recipients.everybody:
            return ["*"] if replies[0][4] else []
        flags = (each[4] for reply in replies for each in chunks(reply[3:], 5))
        return [id for id, flag in zip(self.envelope.recipients.ids, flags, strict=True) if flag]

    def refused_publish(self, replies: Sequence[Any]) -> str:
        """Return why Redis refused to publish the stored message to nodes; empty if it did not."""
        if self.envelope.retention is None:
            return ""
        at = 5 if self.envelope.recipients.everybody else 2
        return next((reply[at].decode(errors="replace") for reply in replies if reply[at]), "")


class Dispatches(NamedTuple):
    """Several dispatches in one round trip."""

    dispatches: tuple[DispatchCalls, ...]

    @classmethod
    def of(cls, keys: Keys, envelopes: Iterable[Envelope]) -> "Dispatches":
        """Make the dispatches, in the order of the envelopes."""
        return cls(tuple(DispatchCalls.of(keys, envelope) for envelope in envelopes))

    @property
    def commands(self) -> list[Command]:
        """All commands in order; empty without recipients."""
        return [call.command for dispatch in self.dispatches for call in dispatch.calls]

    def receipts(self, replies: Sequence[Any]) -> list[Receipt]:
        """Read the replies to `commands`."""
        return [dispatch.receipt(own) for dispatch, own in self.dealt(replies)]

    def replicas(self, replies: Sequence[Any]) -> int:
        """Return how many replicas have to hold the messages whose durability is `replicated`."""
        asked = (each for each in self.dealt(replies) if each[0].envelope.durability == "replicated")
        return max((dispatch.replicas(own) for dispatch, own in asked), default=0)

    def dealt(self, replies: Sequence[Any]) -> list[tuple[DispatchCalls, list[Any]]]:
        """Return each dispatch with the replies to its own calls."""
        rest = iter(replies)
        return [(dispatch, [next(rest) for _ in dispatch.calls]) for dispatch in self.dispatches]


def _receipts(keys: Keys, dispatches: Dispatches, replies: Sequence[Any]) -> list[Receipt]:
    dealt = dispatches.dealt(replies)
    for dispatch, own in dealt:
        if dispatch.envelope.retention is not None:
            warn_of_corruption(keys, dispatch.corrupt(own))
            warn_of_refused_publish(keys, dispatch.refused_publish(own))
    return [dispatch.receipt(own) for dispatch, own in dealt]


def _excluded(envelope: Envelope) -> list[str]:
    return sorted(envelope.recipients.excluding)


def _remember(envelope: Envelope) -> int:
    return ms(envelope.remember) if envelope.remember else 0


def _limits(retention: Retention) -> tuple[int, int, int]:
    return retention.max_messages, retention.max_bytes, ms(retention.ttl)


def _delivery(sequence: int, epoch: bytes, online: int, displaced: int, _: int) -> Delivery:
    """Return the delivery to one id; sequence 0 is a message that came before and was not stored."""
    if not sequence:
        return Delivery(False, max(online, 0), None if online > 0 else "offline")
    return Delivery(True, max(online, 0), None, Position(epoch.decode(), sequence), displaced)
