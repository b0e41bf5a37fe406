"""What is asked of Redis and what its replies mean, without any I/O.

Every operation is a pure function to `Call`s, and one from their replies to a result; the asyncio
and the blocking runner only carry them. A runner sends the calls of one operation in their order,
over one connection.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...envelope import Delivery, Envelope, Keep, Receipt
from ...id_page import IdPage
from ...position import Position
from ..outbox import BROADCASTS
from .keys import BACKLOG_LIFE, EXPIRY, PARTITIONS, POSITION_LIFE, Keys
from .script import (
    ANNOUNCE,
    ATTACH,
    BROADCAST,
    DEPART,
    DETACH,
    DISPATCH,
    HEARTBEAT,
    ONLINE,
    REAP,
    RELAY,
    TALLY,
    Script,
)

MAX_IDS = 200
"""Ids in one script call: a script blocks Redis for everybody, so none may take long."""

MAX_SCANNED = 500
"""Ids that a look at all of them passes in one command; Redis may pass a few more."""

MAX_ENTRIES = 256
"""Messages on one page of an outbox."""

MAX_BYTES = 256 * 1024
"""Bytes on one page of an outbox, unless its first message alone has more."""

Command = tuple[str | bytes | int, ...]
"""One Redis command as it is sent."""


class Call(NamedTuple):
    """One run of a script."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | bytes | int, ...]

    @property
    def command(self) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


class Dispatch(NamedTuple):
    """The calls that hand one envelope to nodes.

    More than `MAX_IDS` recipients take several calls under one message id. Their deliveries are
    merged, and a node that holds recipients of two calls counts, and hears of the message, twice.
    """

    envelope: Envelope
    calls: tuple[Call, ...]

    @classmethod
    def of(cls, keys: Keys, envelope: Envelope) -> "Dispatch":
        """Plan one dispatch; no recipients need no calls."""
        shared = (keys.leases, keys.counters, keys.done(envelope.message_id))
        about = (keys.channels, ms(EXPIRY), envelope.kind, envelope.message_id, envelope.body)
        if envelope.keep is None:
            how: tuple[int, ...] = (_remember(envelope),)
        else:
            replicas = int(envelope.durability == "replicated")
            keep = BROADCASTS if envelope.recipients.everybody else envelope.keep
            how = (*_limits(keep), _remember(envelope), replicas)
        if envelope.recipients.everybody:
            script = BROADCAST if envelope.keep is None else ANNOUNCE
            own = () if envelope.keep is None else (keys.broadcast_position, keys.broadcasts)
            return cls(envelope, (Call(script, (*shared, *own), (*about, *how, *_excluded(envelope))),))
        script, named = (RELAY, _users) if envelope.keep is None else (DISPATCH, outbox_keys)
        calls = (
            Call(script, (*shared, *named(keys, ids)), (*about, *how, *ids))
            for ids in chunks(envelope.recipients.ids, MAX_IDS)
        )
        return cls(envelope, tuple(calls))

    def receipt(self, replies: Sequence[Any]) -> Receipt:
        """Read the replies to `calls`."""
        envelope = self.envelope
        if envelope.recipients.everybody:
            return Receipt(envelope.message_id, {}, replies[0] if envelope.keep is None else replies[0][0])
        nodes = sum(reply[0] for reply in replies)
        if envelope.keep is None:
            return self._relayed(replies, nodes)
        found = (each for reply in replies for each in chunks(reply[3:], 5))
        deliveries = (_delivery(*each) for each in found)
        return Receipt(
            envelope.message_id, dict(zip(envelope.recipients.ids, deliveries, strict=True)), nodes
        )

    def _relayed(self, replies: Sequence[Any], nodes: int) -> Receipt:
        """Read the replies about what is not stored, but may have been when it came before."""
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
        """How many replicas were online when it was stored, at least; 0 if it is not stored."""
        return 0 if self.envelope.keep is None else min((reply[1] for reply in replies), default=0)

    def corrupt(self, replies: Sequence[Any]) -> list[str]:
        """The ids whose outbox could not be read and was set aside; `*` for everybody's."""
        if self.envelope.keep is None:
            return []
        if self.envelope.recipients.everybody:
            return ["*"] if replies[0][4] else []
        flags = (each[4] for reply in replies for each in chunks(reply[3:], 5))
        return [id for id, flag in zip(self.envelope.recipients.ids, flags, strict=True) if flag]

    def unheard(self, replies: Sequence[Any]) -> str:
        """Why nodes could not be told of what was stored; empty if they were."""
        if self.envelope.keep is None:
            return ""
        at = 5 if self.envelope.recipients.everybody else 2
        return next((reply[at].decode(errors="replace") for reply in replies if reply[at]), "")


class Batch(NamedTuple):
    """Several dispatches in one round trip."""

    dispatches: tuple[Dispatch, ...]

    @classmethod
    def of(cls, keys: Keys, envelopes: Iterable[Envelope]) -> "Batch":
        """Plan them in their order."""
        return cls(tuple(Dispatch.of(keys, envelope) for envelope in envelopes))

    @property
    def commands(self) -> list[Command]:
        """All commands in order; empty when nobody is meant."""
        return [call.command for dispatch in self.dispatches for call in dispatch.calls]

    def receipts(self, replies: Sequence[Any]) -> list[Receipt]:
        """Read the replies to `commands`."""
        return [dispatch.receipt(own) for dispatch, own in self.dealt(replies)]

    def replicas(self, replies: Sequence[Any]) -> int:
        """How many replicas have to have all of it, for what asked for that."""
        asked = (each for each in self.dealt(replies) if each[0].envelope.durability == "replicated")
        return max((dispatch.replicas(own) for dispatch, own in asked), default=0)

    def dealt(self, replies: Sequence[Any]) -> list[tuple[Dispatch, list[Any]]]:
        """Each dispatch with the replies to its own calls."""
        rest = iter(replies)
        return [(dispatch, [next(rest) for _ in dispatch.calls]) for dispatch in self.dispatches]


def online(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Ask how many connections `ids` have."""
    return [Call(ONLINE, (keys.leases, *map(keys.user, some)), ()) for some in chunks(ids, MAX_IDS)]


def online_counts(ids: Sequence[str], replies: Sequence[Sequence[int]]) -> dict[str, int]:
    """Read the replies to `online`; a corrupt key counts as nobody."""
    return {id: max(count, 0) for id, count in _by_id(ids, replies).items()}


def count(keys: Keys) -> Command:
    """Ask how many ids have connections; the reply is the number.

    Those of a node that died count until others have cleaned up after it.
    """
    return ("ZCOUNT", keys.graces, "+inf", "+inf")


def scan_online(keys: Keys, cursor: str) -> Command:
    """Ask for some of the ids, and those whose grace runs; `online_page` reads the reply."""
    return ("ZSCAN", keys.graces, cursor, "COUNT", MAX_SCANNED)


def online_page(reply: Sequence[Any]) -> IdPage:
    """Read the reply to `scan_online`: who is held by a node has no end of grace."""
    cursor, flat = reply
    ids = (id.decode(errors="replace") for id, end in chunks(flat, 2) if end == b"inf")
    return IdPage(tuple(ids), None if cursor == b"0" else cursor.decode())


def tally(keys: Keys) -> Call:
    """Count the connections of all living nodes; the reply is the number."""
    return Call(TALLY, (keys.leases, keys.tallies), ())


class Seat(NamedTuple):
    """The calls by which one node keeps its place.

    Args:
        keys: names of the namespace.
        node: this node's id.
        lease: seconds that a heartbeat lasts.
        expiry: seconds until what this node wrote disappears without it.
        grace: seconds that an id may be away before it counts as offline.
        window: seconds for which acknowledged messages are kept for clients that come back with a
            position.
        watches_portals: whether heartbeats ask which portals live.
    """

    keys: Keys
    node: str
    lease: float
    expiry: float
    grace: float = 5.0
    window: float = 120.0
    watches_portals: bool = False

    def heartbeat(
        self, *, join: bool, connections: int = 0, runs: tuple[str, str] = ("", "")
    ) -> tuple[Call, Command]:
        """Renew the lease, or take one, and tell how many connections there are.

        `Pulse.of` reads the first reply; `runs` is `Runs.args`.
        """
        own = (self.keys.held(self.node), self.keys.graces, self.keys.connections(self.node))
        shared = (self.keys.tallies, self.keys.portals, self.keys.observers, self.keys.signs)
        keys = (self.keys.leases, self.keys.counters, *own, *shared)
        args = (self.node, ms(self.lease), int(join), self.keys.channels, ms(self.expiry))
        more = (connections, int(self.watches_portals), ms(BACKLOG_LIFE), *runs)
        call = Call(HEARTBEAT, keys, (*args, *more))
        return call, ("PEXPIRE", self.keys.meta, ms(self.expiry))

    def claim(self) -> tuple[Command, Command]:
        """Record the layout for programs that start later."""
        return (
            ("HSETNX", self.keys.meta, "partitions", PARTITIONS),
            ("PEXPIRE", self.keys.meta, ms(self.expiry)),
        )

    def attach(self, held: Mapping[str, tuple[int, int]], told: Container[str] = ()) -> Call:
        """Record ids with their sockets and version, and read nothing.

        `came_online` reads the reply.

        Args:
            held: id -> sockets, version.
            told: ids of which this node has told that they are online.
        """
        wishes = (
            (id, sockets, version, int(id in told), "", "", 0, 0) for id, (sockets, version) in held.items()
        )
        return self.visit(list(held), [part for wish in wishes for part in wish])

    def visit(self, ids: Iterable[str], wishes: Iterable[str | int]) -> Call:
        """Run `attach.lua` for `ids`; it says what the wishes are."""
        keys = (self.keys.leases, self.keys.held(self.node), self.keys.graces, self.keys.signs)
        args = (self.node, ms(self.expiry), MAX_ENTRIES, MAX_BYTES, ms(POSITION_LIFE))
        return Call(ATTACH, (*keys, *outbox_keys(self.keys, ids)), (*args, *wishes))

    def detach(self, ids: Sequence[str], version: int) -> Call:
        """Forget ids that were not recorded after `version`."""
        keys = (self.keys.held(self.node), self.keys.graces, *_users(self.keys, ids))
        return Call(DETACH, keys, (self.node, version, ms(self.expiry), ms(self.grace), *ids))

    def leave(self) -> Call:
        """Give up the lease and forget some ids; the reply is 1 when there is more to do."""
        return reap(self.keys, self.node, ms(self.expiry), ms(self.grace))

    def reap(self) -> Call:
        """Forget some ids of a node whose lease ran out; the reply is 1 when there may be more."""
        return reap(self.keys, "", ms(self.expiry), 0)

    def depart(self) -> Call:
        """Take some ids whose grace is over, to tell that they are offline; the reply is them."""
        return Call(DEPART, (self.keys.graces, self.keys.signs), (self.keys.users, MAX_IDS))

    def scan(self, cursor: int) -> Command:
        """Read some of the ids that Redis has for this node."""
        return ("SSCAN", self.keys.held(self.node), cursor, "COUNT", MAX_IDS)


def reap(keys: Keys, node: str, expiry: int, grace: int) -> Call:
    """Forget some ids and connections of a node; the reply is 1 when there may be more.

    Args:
        keys: names of the namespace.
        node: which gives up its own lease; '' for one whose lease ran out.
        expiry: milliseconds until what was written disappears.
        grace: milliseconds that its ids may be away.
    """
    names = (keys.leases, keys.counters, keys.graces, keys.observers, keys.observed, keys.tallies, keys.signs)
    prefixes = (keys.open_connections, keys.queues, ms(BACKLOG_LIFE))
    return Call(REAP, names, (keys.holdings, keys.users, MAX_IDS, node, expiry, grace, *prefixes))


class Pulse(NamedTuple):
    """What a heartbeat found.

    Attributes:
        has_lease: False when the lease is lost and the node has to join.
        dead: how many nodes' leases ran out.
        gone: how many ids' grace is over, for `Seat.depart`.
        portals: those that live, if they were asked for.
        run: what `Runs.ended` reads.
        was_passed_over: 1 where the lease had run out while Redis was away, so that messages may be missing.
    """

    has_lease: bool
    dead: int = 0
    gone: int = 0
    portals: Sequence[bytes] = ()
    run: Sequence[bytes] = (b"",)
    was_passed_over: int = 0

    @classmethod
    def of(cls, reply: Sequence[Any]) -> "Pulse":
        """Read the first reply to `Seat.heartbeat`."""
        return cls(reply[0] == 1, *reply[1:])


def came_online(ids: Iterable[str], reply: Any) -> list[str] | None:
    """Read the reply to `Seat.attach`: the ids that came online by it; None when the lease is lost."""
    if reply == 0:
        return None
    return [id for id, (first,) in zip(ids, reply, strict=True) if first]


def chunks(ids: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut `ids` into pieces of at most `size`."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def ms(seconds: float) -> int:
    """Milliseconds, never none: that would mean forever, or at once."""
    return max(1, round(seconds * 1000))


def outbox_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    """The keys of ids for scripts that number or read: position, outbox and user of each."""
    return [key for id in ids for key in (keys.position(id), keys.outbox(id), keys.user(id))]


def _users(keys: Keys, ids: Iterable[str]) -> list[str]:
    return [keys.user(id) for id in ids]


def _excluded(envelope: Envelope) -> list[str]:
    return sorted(envelope.recipients.excluding)


def _remember(envelope: Envelope) -> int:
    return ms(envelope.remember) if envelope.remember else 0


def _limits(keep: Keep) -> tuple[int, int, int]:
    return keep.max_messages, keep.max_bytes, ms(keep.ttl)


def _delivery(sequence: int, epoch: bytes, online: int, displaced: int, _: int) -> Delivery:
    """What became of a stored message for one id; 0 is one that came before, and was not stored."""
    if not sequence:
        return Delivery(False, max(online, 0), None if online > 0 else "offline")
    return Delivery(True, max(online, 0), None, Position(epoch.decode(), sequence), displaced)


def _by_id(ids: Iterable[str], replies: Iterable[Sequence[int]]) -> dict[str, int]:
    counts = (count for reply in replies for count in reply)
    return dict(zip(ids, counts, strict=True))


_CORRUPT = Delivery(False, 0, "corrupt")
