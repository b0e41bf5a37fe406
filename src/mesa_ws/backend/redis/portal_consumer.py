"""Portal consumer over Redis: the commands of a portal, and the meaning of their replies."""

import asyncio
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import uuid4

import msgspec

from ...concurrency.limited_log import LimitedLog
from ...errors import BackendRefused
from ...messages.envelope import Envelope
from ...settings import Durability, check_namespace
from ..inbox import (
    MAX_READ,
    PARTITIONS,
    READ_LIMITS,
    Backlog,
    DeadLetter,
    InboxEvent,
    Ownership,
    QueueBacklog,
    Step,
    WaitingEvent,
)
from ..redis_client.address import Address
from ..redis_client.command import Call, Command, chunks, ms
from ..redis_client.durability import Proof
from ..redis_client.pipeline import Pipeline
from ..redis_wire.timing import EXPIRY, Timing
from .dispatch import message_args
from .inbox_writer import inbox_proof
from .keys import Keys
from .node_commands import reap
from .queue_types import QueueTypes
from .rights import of_portal
from .scripts import BACKLOG, OBSERVE, PORTAL_HEARTBEAT, REPLY, REVIVE, SETTLE
from .wire import NativeHandshake

MAX_STEPS = 500
"""Steps in one call."""

START = "0-0"
"""Offset before all events."""

WAIT = 0.1
"""Seconds that a read waits for events."""

_FIELDS = [b"c", b"s", b"k", b"i", b"n", b"t", b"d"]
"""Names of the fields of an event, in the order in which inbox.lua writes them."""

_KINDS = frozenset({b"connection", b"authentication", b"message", b"disconnection"})

_UNREADABLE = (LookupError, ValueError, OverflowError)
"""Raised for an entry that cannot be read."""

_TIME, _PARTITION = 11, 15
"""Indexes in such an entry: of the time, and of the partition that observers read."""

_NETWORK = b"a"
"""Name of the field that may follow them in a queue."""

_owned = attrgetter("partition", "token")

_log = logging.getLogger("mesa_ws.portal")


class PortalCommands:
    """Commands of one portal, and the meaning of their replies. No I/O.

    Args:
        keys: names of the namespace.
        portal: id of the portal.
        lease: seconds that a heartbeat lasts.
        durability: durability that steps have to reach.
    """

    def __init__(self, keys: Keys, portal: str, lease: float, durability: Durability = "memory") -> None:
        self.portal = portal
        self.lease = lease
        self._keys = keys
        # Computed once: each event needs them.
        numbers = range(PARTITIONS)
        self._queues = [keys.queue(number) for number in numbers]
        self._numbers = {name.encode(): number for number, name in enumerate(self._queues)}
        self._queue_keys = [
            (keys.owner(number), keys.queue(number), keys.deliveries(number), keys.weights(number))
            for number in numbers
        ]
        self._dead_and_rejected = (keys.dead, keys.rejected)
        self._settle_args = (portal, int(durability == "replicated"))
        self._wait = ms(WAIT)

    def heartbeat(self, wanted: Collection[int], *, stays: bool) -> Call:
        """Renew the lease, and own the wanted partitions; `ownership` reads the reply."""
        keys = self._keys
        shared = (keys.portals, keys.tokens, keys.leases, keys.observers, keys.signs)
        wishes: list[str | bytes | int] = [int(number in wanted) for number in range(PARTITIONS)]
        args = (self.portal, ms(self.lease), int(stays), *wishes)
        return Call(PORTAL_HEARTBEAT, (*shared, *(owner for owner, *_ in self._queue_keys)), args)

    def reap(self) -> Call:
        """End connections of a node that died; the reply is 1 when there may be more."""
        return reap(self._keys, "", ms(EXPIRY), 0)

    def read(self, after: Mapping[int, str]) -> Command:
        """Wait for events; `events` reads the reply."""
        names = (self._queues[number] for number in after)
        offsets = (offset or START for offset in after.values())
        return ("XREAD", "COUNT", READ_LIMITS[len(after)], "BLOCK", self._wait, "STREAMS", *names, *offsets)

    def events(self, reply: Any) -> list[WaitingEvent]:
        """Read the reply to `read`; entries that cannot be read have the kind `unreadable`."""
        found = []
        for name, entries in reply or ():
            number = self._numbers[name]
            found += [event for entry in entries if (event := _waiting_event(entry, number)) is not None]
        return found

    def settle(self, steps: Sequence[Step]) -> Call:
        """Apply steps, one queue after another; the reply ends with the result of each step."""
        keys, parts = [*self._dead_and_rejected], list[str | bytes | int](self._settle_args)
        for (partition, token), same in groupby(steps, _owned):
            together = list(same)
            sent = [self._keys.done(message_id) for step in together for message_id in step.message_ids]
            keys += (*self._queue_keys[partition], *sent)
            parts += (partition, token, max([step.attempt for step in together]), len(sent), len(together))
            for step in together:
                parts += (step.action, step.offset)
                if step.action != "begin":
                    parts += (step.account, step.weight)
                if step.action == "die":
                    parts.append(step.reason)
        return Call(SETTLE, tuple(keys), tuple(parts))

    def observe(self) -> Call:
        """Renew the lease of an observer; the reply is the end of the stream."""
        keys = (self._keys.observers, self._keys.observed)
        return Call(OBSERVE, keys, (self.portal, ms(self.lease)))

    def listen(self, after: str) -> Command:
        """Wait for events on the observers' stream; `observed` reads the reply."""
        return ("XREAD", "COUNT", MAX_READ, "BLOCK", self._wait, "STREAMS", self._keys.observed, after)

    def reply(self, envelope: Envelope, node: str) -> Call:
        """Send a message to one connection; the reply is 1 when its node lives."""
        keys = (self._keys.leases, self._keys.counters, self._keys.done(envelope.message_id))
        return Call(REPLY, keys, (*message_args(self._keys, envelope), node, envelope.recipients.ids[0]))

    def backlog(self) -> Call:
        """Read the backlog of portals; `read_backlog` reads the reply."""
        queues = (key for owner, queue, *_ in self._queue_keys for key in (owner, queue))
        return Call(BACKLOG, (self._keys.portals, *self._dead_and_rejected, *queues), ())

    def revive(self, offsets: Sequence[str]) -> Call:
        """Put dead letters back into their queues; the reply is their number."""
        return Call(REVIVE, (self._keys.dead,), (self._keys.queues, *offsets))


def ownership(reply: Sequence[Any]) -> Ownership:
    """Read the reply to `heartbeat`, which begins with the number of nodes that died."""
    _, portals, *tokens = reply
    owned = {number: token for number, token in enumerate(tokens) if token}
    return Ownership(tuple(portal.decode() for portal in portals), owned)


def observed(reply: Any, log: LimitedLog) -> list[WaitingEvent]:
    """Read the reply to `listen`; log that entries cannot be read."""
    entries = reply[0][1] if reply else ()
    found = [event for entry in entries if (event := _waiting_event(entry)) is not None]
    readable = [each for each in found if each.event.kind != "unreadable"]
    if len(readable) < len(found):
        log.warning("ignored %d events for observers that cannot be read", len(found) - len(readable))
    return readable


def read_backlog(reply: Sequence[Any]) -> Backlog:
    """Read the reply to `backlog`."""
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


def _waiting_event(entry: Any, partition: int | None = None) -> WaitingEvent | None:
    """Read an entry of a queue, or without `partition` of the observers' stream; None if it was deleted."""
    offset, flat = entry
    if flat is None:  # the entry was deleted during the read
        return None
    try:
        number = int(flat[_PARTITION]) if partition is None else partition
        return WaitingEvent(offset.decode(), int(flat[_TIME]) / 1000, _inbox_event(flat, number))
    except _UNREADABLE:
        return WaitingEvent(offset.decode(), 0.0, _unreadable_event(flat, partition or 0))


def _dead_letter(offset: bytes, flat: Sequence[bytes]) -> DeadLetter:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    died = at = int(offset.split(b"-")[0]) / 1000
    deliveries, reason = 0, fields.get(b"r", b"").decode(errors="replace")
    try:
        event = _inbox_event(flat, int(fields[b"p"]))
        deliveries, at = int(fields[b"y"]), int(fields[b"t"]) / 1000
    except _UNREADABLE:
        event = _unreadable_event(flat, 0)
    return DeadLetter(offset.decode(), died, deliveries, reason, at, event)


def _unreadable_event(flat: Sequence[bytes], partition: int) -> InboxEvent:
    """Return what stands for an entry that cannot be read; its data are its fields."""
    texts = [each.decode(errors="replace") for each in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))
    return InboxEvent(fields.get("c", ""), partition, "", "unreadable", None, "", msgspec.json.encode(fields))


def _inbox_event(flat: Sequence[bytes], partition: int) -> InboxEvent:
    connection_id, sequence, kind, id, node, _, data = flat[1:14:2]
    if flat[:14:2] != _FIELDS or kind not in _KINDS:
        raise ValueError("no event")
    return InboxEvent(
        connection_id.decode(),
        partition,
        sequence.decode(),
        kind.decode(),  # type: ignore[arg-type]  # one of `_KINDS`
        id.decode() or None,
        node.decode(),
        data,
        flat[15].decode() if flat[14:15] == [_NETWORK] else "",
    )


class RedisPortalConsumer:
    """`PortalConsumer` over Redis: any number of processes share the queues.

    Args:
        address: a Redis URI, a mapping of redis-py options, or a redis-py client.
        namespace: the namespace of the servers.
        lease: seconds without a heartbeat after which other portals take over this one's partitions.
        timeout: seconds for one call, connecting included.
        durability: durability that steps have to reach.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(
        self,
        address: object,
        *,
        namespace: str | None = None,
        lease: float = 15.0,
        timeout: float = 5.0,
        durability: Durability = "memory",
    ) -> None:
        timing = Timing(lease=lease, timeout=timeout)
        self._keys = Keys(check_namespace(namespace))
        self.portal_id = uuid4().hex
        self._commands = PortalCommands(self._keys, self.portal_id, timing.lease, durability)
        found, handshake = Address.of(address), NativeHandshake(self._keys, of_portal(self._keys))
        self._pipeline = Pipeline(found, handshake, timing.timeout)
        # XREAD waits for events, and nothing runs on its connection until then.
        self._read_pipeline = Pipeline(found, handshake, timing.timeout)
        self._proof = inbox_proof(durability)
        # Waiting for durability on the first connection would delay heartbeats.
        self._settle_pipeline = Pipeline(found, handshake, timing.timeout) if self._proof else self._pipeline
        self._types = QueueTypes(self._keys, lambda command: self._pipeline.execute([command]))
        self._log = LimitedLog(_log)
        self._shown_until = 0.0
        self._is_checked = self._proof is None

    async def heartbeat(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Renew the lease, and own the wanted partitions; see `PortalConsumer.heartbeat`.

        Raises:
            Unsupported: this Redis cannot make steps as durable as they have to be; nothing is owned.
        """
        if not self._is_checked:
            await self._check()
        reply = await self._run(self._commands.heartbeat(wanted, stays=stays))
        if reply[0] and stays:
            while await self._run(self._commands.reap()) == 1:
                pass
        return ownership(reply)

    async def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Wait a moment for events; see `PortalConsumer.read`."""
        (reply,) = await self._execute([self._commands.read(after)], self._read_pipeline)
        return self._commands.events(reply)

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Apply steps; see `PortalConsumer.settle`."""
        calls = [
            self._commands.settle(steps[start : start + MAX_STEPS])
            for start in range(0, len(steps), MAX_STEPS)
        ]
        replies = await self._execute(calls, self._settle_pipeline, proof=self._proof)
        return [result for reply in replies for result in reply[1:]]

    async def observe(self, after: str) -> tuple[str, list[WaitingEvent]]:
        """Wait a moment for events of any queue; see `PortalConsumer.observe`."""
        now = asyncio.get_running_loop().time()
        if now >= self._shown_until:
            end = await self._run(self._commands.observe())
            self._shown_until = now + self._commands.lease / 3
            after = after or end.decode()
        (reply,) = await self._execute([self._commands.listen(after)], self._read_pipeline)
        return (reply[0][1][-1][0].decode() if reply else after), observed(reply, self._log)

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection; see `PortalConsumer.reply`."""
        call, known_for = self._commands.reply(envelope, node), envelope.remember
        return bool(await self._run(call, is_repeatable=known_for > 0, known_for=known_for))

    async def backlog(self) -> Backlog:
        """Return the present backlog; see `PortalConsumer.backlog`."""
        return read_backlog(await self._run(self._commands.backlog()))

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        reply = await self._run(("XRANGE", self._keys.dead, "-", "+", "COUNT", limit))
        return [_dead_letter(*entry) for entry in reply]

    async def revive(self, offsets: Sequence[str]) -> int:
        """Put dead letters back into their queues; return their number."""
        calls = [self._commands.revive(some) for some in chunks(offsets, MAX_STEPS)]
        return sum([await self._run(call, is_repeatable=False) for call in calls])

    async def drop(self, offsets: Sequence[str]) -> int:
        """Delete dead letters; return their number."""
        commands: list[Command] = [("XDEL", self._keys.dead, *some) for some in chunks(offsets, MAX_STEPS)]
        return sum([await self._run(command, is_repeatable=False) for command in commands])

    async def aclose(self) -> None:
        """Disconnect."""
        for pipeline in (self._read_pipeline, self._settle_pipeline, self._pipeline):
            await pipeline.aclose()
        self._log.close()

    async def _check(self) -> None:
        """Check, before anything is owned, that this Redis can give the proof."""
        assert self._proof is not None  # noqa: S101 - else there is nothing to check
        await self._run(("ZCOUNT", self._keys.portals, 0, 0))
        self._pipeline.check(self._proof)
        self._is_checked = True

    async def _run(
        self, call: Call | Command, *, is_repeatable: bool = True, known_for: float = math.inf
    ) -> Any:
        """Run one call on the connection for heartbeats and other short calls; return its reply."""
        (reply,) = await self._execute(
            [call], self._pipeline, is_repeatable=is_repeatable, known_for=known_for
        )
        return reply

    async def _execute(
        self,
        calls: Sequence[Call | Command],
        pipeline: Pipeline,
        *,
        is_repeatable: bool = True,
        known_for: float = math.inf,
        proof: Proof | None = None,
    ) -> list[Any]:
        """Run calls; if a key has the wrong type, set it aside and run them again."""
        is_repeated = False
        while True:
            try:
                return await pipeline.execute(
                    [call.command if isinstance(call, Call) else call for call in calls],
                    is_repeatable=is_repeatable,
                    known_for=known_for,
                    proof=proof,
                )
            except BackendRefused as error:
                is_repeated = await self._types.repair(error, is_repeated=is_repeated)
