"""What is asked of Redis and what its replies mean, without any I/O.

Every operation is a pure function to `Call`s, and one from their replies to a result; the asyncio
and the blocking runner only carry them. A runner sends the calls of one operation in their order,
over one connection.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ...envelope import Delivery, Envelope, Receipt
from ...errors import BackendRefused
from .keys import EXPIRY, PARTITIONS, Keys
from .script import ATTACH, BROADCAST, DETACH, DISPATCH, HEARTBEAT, ONLINE, REAP, SCRIPTS, Script

MAX_IDS = 200
"""Ids in one script call: a script blocks Redis for everybody, so none may take long."""

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
        about = (keys.channels, _ms(EXPIRY), envelope.kind, envelope.message_id, envelope.body)
        shared = (keys.leases, keys.counters)
        if envelope.recipients.everybody:
            excluding = sorted(envelope.recipients.excluding)
            return cls(envelope, (Call(BROADCAST, shared, (*about, *excluding)),))
        calls = (
            Call(DISPATCH, (*shared, *map(keys.user, ids)), (*about, *ids))
            for ids in chunks(envelope.recipients.ids, MAX_IDS)
        )
        return cls(envelope, tuple(calls))

    def receipt(self, replies: Sequence[Any]) -> Receipt:
        """Read the replies to `calls`."""
        id = self.envelope.message_id
        if self.envelope.recipients.everybody:
            return Receipt(id, {}, replies[0])
        online = _by_id(self.envelope.recipients.ids, [reply[1:] for reply in replies])
        receipt = Receipt.of(id, online, sum(reply[0] for reply in replies))
        corrupt = {id: _CORRUPT for id, count in online.items() if count < 0}
        return receipt._replace(deliveries={**receipt.deliveries, **corrupt}) if corrupt else receipt


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
        rest = iter(replies)
        return [dispatch.receipt([next(rest) for _ in dispatch.calls]) for dispatch in self.dispatches]


def online(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Ask how many connections `ids` have."""
    return [Call(ONLINE, (keys.leases, *map(keys.user, some)), ()) for some in chunks(ids, MAX_IDS)]


def online_counts(ids: Sequence[str], replies: Sequence[Sequence[int]]) -> dict[str, int]:
    """Read the replies to `online`; a corrupt key counts as nobody."""
    return {id: max(count, 0) for id, count in _by_id(ids, replies).items()}


class Seat(NamedTuple):
    """The calls by which one node keeps its place.

    Args:
        keys: names of the namespace.
        node: this node's id.
        lease: seconds that a heartbeat lasts.
        expiry: seconds until what this node wrote disappears without it.
    """

    keys: Keys
    node: str
    lease: float
    expiry: float

    def heartbeat(self, *, join: bool) -> tuple[Call, Command]:
        """Renew the lease, or take one; `Pulse.of` reads the first reply."""
        keys = (self.keys.leases, self.keys.counters, self.keys.held(self.node))
        args = (self.node, _ms(self.lease), int(join), self.keys.channels, _ms(self.expiry))
        return Call(HEARTBEAT, keys, args), ("PEXPIRE", self.keys.meta, _ms(self.expiry))

    def claim(self) -> tuple[Command, Command]:
        """Record the layout for programs that start later."""
        return (
            ("HSETNX", self.keys.meta, "partitions", PARTITIONS),
            ("PEXPIRE", self.keys.meta, _ms(self.expiry)),
        )

    def attach(self, held: Mapping[str, tuple[int, int]]) -> Call:
        """Record ids with their sockets and version; the reply is 0 when the lease is lost."""
        keys = (self.keys.leases, self.keys.held(self.node), *map(self.keys.user, held))
        entries = (part for id, (sockets, version) in held.items() for part in (id, sockets, version))
        return Call(ATTACH, keys, (self.node, _ms(self.expiry), *entries))

    def detach(self, ids: Sequence[str], version: int) -> Call:
        """Forget ids that were not recorded after `version`."""
        keys = (self.keys.held(self.node), *map(self.keys.user, ids))
        return Call(DETACH, keys, (self.node, version, *ids))

    def leave(self) -> Call:
        """Give up the lease and forget some ids; the reply is 1 when there is more to do."""
        return self._reap(self.node)

    def reap(self) -> Call:
        """Forget some ids of a node whose lease ran out; the reply is 1 when there may be more."""
        return self._reap("")

    def _reap(self, node: str) -> Call:
        args = (self.keys.holdings, self.keys.users, MAX_IDS, node)
        return Call(REAP, (self.keys.leases, self.keys.counters), args)

    def scan(self, cursor: int) -> Command:
        """Read some of the ids that Redis has for this node."""
        return ("SSCAN", self.keys.held(self.node), cursor, "COUNT", MAX_IDS)


class Pulse(NamedTuple):
    """What a heartbeat found.

    Attributes:
        has_lease: False when the lease is lost and the node has to join.
        dead: how many nodes' leases ran out.
    """

    has_lease: bool
    dead: int = 0

    @classmethod
    def of(cls, reply: Sequence[int]) -> "Pulse":
        """Read the first reply to `Seat.heartbeat`."""
        return cls(reply[0] == 1, *reply[1:])


def handshake(keys: Keys) -> list[Command]:
    """What every connection says before it is used: the scripts, then the layout."""
    loads: list[Command] = [("SCRIPT", "LOAD", script.source) for script in SCRIPTS]
    return [*loads, ("HGET", keys.meta, "partitions")]


def check_handshake(keys: Keys, replies: Sequence[Any]) -> None:
    """Read the replies to `handshake`.

    Raises:
        BackendRefused: the cluster has another layout, so messages would not be found.
    """
    found = replies[-1]
    if found is not None and found != b"%d" % PARTITIONS:
        raise BackendRefused(
            f"{keys.meta}: expected a cluster of {PARTITIONS} partition, as this program makes it, got "
            f"{found.decode(errors='replace')[:20]}; run one version everywhere, or use another namespace"
        )


def chunks(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    """Cut `ids` into pieces of at most `size`."""
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def _by_id(ids: Iterable[str], replies: Iterable[Sequence[int]]) -> dict[str, int]:
    counts = (count for reply in replies for count in reply)
    return dict(zip(ids, counts, strict=True))


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


_CORRUPT = Delivery(False, 0, "corrupt")
