"""Commands for Redis on the wire of 1.x, and the meaning of their replies, without any I/O."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from ...messages.envelope import Envelope, Retention
from ...messages.receipt import Delivery, Position, Receipt
from ..redis_client.command import MAX_IDS, Call, Command, Script, chunks, ms, named
from ..redis_wire.lease import Pulse
from ..redis_wire.scripts import RIGHTS, script
from .keys import Mesa1Keys
from .payloads import message_json, naming, to_everybody

ASIDE = 7 * 86_400.0
"""Seconds for which unreadable values are kept aside for inspection."""


def _script(name: str) -> Script:
    return script(__package__, name, "prelude", constants={"ASIDE": str(ms(ASIDE)), "MAX_IDS": str(MAX_IDS)})


PORTAL_HEARTBEAT = _script("portal_heartbeat")
ATTACH = _script("attach")
HEARTBEAT = _script("heartbeat")
BROADCAST = _script("broadcast")
RECOUNT = _script("recount")
DEPART = _script("depart")
DETACH = _script("detach")
DISPATCH = _script("dispatch")
ONLINE = _script("online")
POOL = _script("pool")
PURGE = _script("purge")
RESTORE_PORTALS = _script("restore_portals")
REAP = _script("reap")
SWAP = _script("swap")
REMOVE_PORTAL = _script("remove_portal")

SCRIPTS = (
    *(ATTACH, HEARTBEAT, BROADCAST, RECOUNT, DEPART, DETACH, DISPATCH, ONLINE, PURGE, REAP, SWAP),
    *(PORTAL_HEARTBEAT, POOL, RESTORE_PORTALS, REMOVE_PORTAL, RIGHTS),
)
"""All scripts; every connection loads them before it is used."""


MAX_RECIPIENTS = 1000
"""Ids in one dispatch; 1.x publishes to any number of ids at once."""

MAX_STORED = 50
"""Ids in one dispatch that may store: each list is read and written whole, which takes milliseconds."""

NOWHERE = "mesa1"
"""Epoch of positions in receipts, which lead nowhere: this wire has no status of messages."""


class Mesa1Dispatch(NamedTuple):
    """Calls that send one envelope."""

    envelope: Envelope
    calls: tuple[Call, ...]

    @classmethod
    def of(cls, keys: Mesa1Keys, envelope: Envelope, *, is_named: bool = False) -> "Mesa1Dispatch":
        """Return the calls for one envelope; without recipients there are none.

        Args:
            keys: names of the namespace.
            envelope: the message and its recipients.
            is_named: whether the payload carries the id of the message.
        """
        message, more = message_json(envelope), naming(envelope.message_id) if is_named else b""
        done = keys.done(envelope.message_id)
        remember = ms(envelope.remember) if envelope.remember else 0
        if envelope.recipients.everybody:
            payload = to_everybody(message, envelope.recipients.excluding, more)
            return cls(envelope, (Call(BROADCAST, (done,), (keys.messages, payload, remember)),))
        retention = envelope.retention or Retention(1, 1, 0.0)
        stores = int(envelope.retention is not None)
        own = (keys.connected, keys.undelivered, done, keys.leases)
        about = (keys.messages, message, stores, retention.max_messages, retention.max_bytes, remember)
        aside = (keys.asides, keys.channels, more, keys.cleared(keys.undelivered))
        calls = []
        for ids in chunks(envelope.recipients.ids, MAX_STORED if stores else MAX_RECIPIENTS):
            each = ((id, msgspec.json.encode(id), int(bool(id.strip()))) for id in ids)
            args = (*about, *aside, *chain.from_iterable(each))
            calls.append(Call(DISPATCH, (*own, *map(keys.user, ids)), args))
        return cls(envelope, tuple(calls))

    def receipt(self, keys: Mesa1Keys, replies: Sequence[Any]) -> Receipt:
        """Read the replies to `calls`; log what was corrupt and set aside."""
        envelope = self.envelope
        if envelope.recipients.everybody:
            return Receipt(envelope.message_id, {}, replies[0])
        deliveries, corrupt = dict[str, Delivery](), []
        found = (four for reply in replies for four in chunks(reply[2:], 4))
        for id, (stored, online, displaced, is_corrupt) in zip(envelope.recipients.ids, found, strict=True):
            if stored:
                deliveries[id] = Delivery(True, online, None, Position(NOWHERE, stored), displaced)
            else:
                deliveries[id] = Delivery(False, online, None if online else "offline")
            if is_corrupt:
                corrupt.append(id)
        warn_of_corruption(keys, corrupt)
        if any(reply[1] for reply in replies):
            warn_of_another_type(keys)
        return Receipt(envelope.message_id, deliveries, max((reply[0] for reply in replies), default=0))


class Mesa1NodeCommands(NamedTuple):
    """Calls of one node.

    Attributes:
        keys: names of the namespace.
        node: name of the node.
        lease: seconds without a heartbeat after which other nodes treat it as dead.
        expiry: seconds after its last heartbeat until Redis has forgotten it.
        grace: seconds that an id may be away.
    """

    keys: Mesa1Keys
    node: str
    lease: float
    expiry: float
    grace: float

    def heartbeat(self, *, join: bool, connections: int, runs: tuple[str, str] = ("", "")) -> tuple[Call]:
        """Renew the lease, or take one whatever `join` says; `pulse` reads the reply."""
        keys = self.keys
        own = (keys.leases, keys.counts, keys.connections, keys.held(self.node), keys.graces)
        theirs = (keys.connected, keys.undelivered)
        shown = (keys.signs, keys.portal_leases)
        args = named(
            node=self.node,
            lease=ms(self.lease),
            expiry=ms(self.expiry),
            connections=connections,
            channel=keys.channel(self.node),
            cleared=keys.cleared(keys.undelivered),
            run=runs[0],
            reported=runs[1],
        )
        return (Call(HEARTBEAT, (*own, *theirs, *shown), (args,)),)

    def pulse(self, reply: Sequence[Any]) -> Pulse:
        """Read the reply to `heartbeat`.

        `Pulse.own` are whether the node had a lease, whether `undelivered_messages` was no hash and was set
        aside, and the keys of 1.x that have another type, and were left alone.
        """
        had_lease, dead, gone, has_cleared, strange, run, was_passed_over = reply
        return Pulse(True, dead, gone, (had_lease, has_cleared, strange), run, was_passed_over)

    def claim(self) -> tuple[()]:
        """Record nothing: this wire has one layout."""
        return ()

    def recount(self, connections: int) -> Call:
        """Set the number of connections."""
        keys = self.keys
        return Call(RECOUNT, (keys.leases, keys.counts, keys.connections), (self.node, connections))

    def attach(self, held: Mapping[str, int], mode: str = "") -> Call:
        """Record ids with their connections; see `attach.lua` for `mode` and the reply."""
        keys = self.keys
        own = (keys.leases, keys.held(self.node), keys.graces, keys.connected, keys.undelivered)
        wishes = (part for each in held.items() for part in each)
        return Call(ATTACH, (*own, *map(keys.user, held)), (self.node, ms(self.expiry), mode, *wishes))

    def detach(self, ids: Sequence[str]) -> Call:
        """Remove ids."""
        keys = self.keys
        own = (keys.held(self.node), keys.graces, keys.connected)
        times = (ms(self.expiry), round(self.grace * 1000))
        return Call(DETACH, (*own, *map(keys.user, ids)), (self.node, *times, *ids))

    def leave(self) -> Call:
        """Give up the lease and release some ids; the reply is 1 if more may follow."""
        return self._release(self.node, round(self.grace * 1000))

    def reap(self) -> Call:
        """Release some ids of a node whose lease ran out; the reply is 1 if more may follow."""
        return self._release("", 0)

    def _release(self, node: str, grace: int) -> Call:
        keys = self.keys
        own = (keys.leases, keys.counts, keys.graces, keys.connected, keys.connections, keys.signs)
        return Call(REAP, own, (keys.holdings, keys.users, node, ms(self.expiry), grace))

    def depart(self) -> Call:
        """Take some ids whose grace is over."""
        return Call(DEPART, (self.keys.graces, self.keys.connected, self.keys.signs), (self.keys.users,))


def swap(keys: Mesa1Keys, id: str, was: bytes, becomes: bytes, *, sets_aside: bool = False) -> Call:
    """Replace the list of an id, unless it has changed; the reply is 1 if it was replaced."""
    return Call(SWAP, (keys.undelivered, keys.set_aside(id)), (id, was, becomes, int(sets_aside)))


def kept(keys: Mesa1Keys, ids: Sequence[str]) -> Command:
    """Read the lists of ids."""
    return ("HMGET", keys.undelivered, *ids)


_log = logging.getLogger("mesa_ws.backend")


def warn_of_corruption(keys: Mesa1Keys, ids: Iterable[str]) -> None:
    """Log whose lists could not be read, and where they are kept for inspection."""
    for id in ids:
        _log.warning(
            "the list of 1.x for %r was corrupt; it was set aside under %r, and its readable messages stay",
            id,
            keys.set_aside(id),
        )


def warn_of_another_type(keys: Mesa1Keys) -> None:
    """Log that the key of the lists had another type, and where its value is now."""
    aside = keys.cleared(keys.undelivered)
    _log.warning("%r had another type than 1.x keeps there; it was set aside as %r", keys.undelivered, aside)
