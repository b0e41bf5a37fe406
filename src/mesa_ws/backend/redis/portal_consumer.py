"""Portal consumer over Redis."""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import uuid4

from ...messages.envelope import Envelope
from ...settings import Durability, check_namespace
from ..inbox import Backlog, DeadLetter, Ownership, Step, WaitingEvent
from ..redis_client.address import Address
from ..redis_client.batch import Batch
from ..redis_client.command import Command, chunks
from ..redis_client.durability import Proof
from ..redis_client.pipeline import Pipeline
from ..redis_wire.timing import Timing
from .inbox_commands import (
    PortalCommands,
    dead,
    dead_letters,
    drop,
    overheard,
    proof,
    revive,
    settled,
    survey,
    surveyed,
    tend_reply,
)
from .keys import Keys
from .queue_types import QueueTypes
from .rights import of_portal
from .wire import NativeHandshake

MAX_STEPS = 500
"""Steps in one call."""


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
        self._commands = PortalCommands(self._keys, uuid4().hex, timing.lease, durability)
        found, handshake = Address.of(address), NativeHandshake(self._keys, of_portal(self._keys))
        self._pipeline = Pipeline(found, handshake, timing.timeout)
        self._waiting = Pipeline(found, handshake, timing.timeout)
        # Waiting for durability on the first connection would delay heartbeats.
        self._settling = Pipeline(found, handshake, timing.timeout)
        self._proof = proof(durability)
        self._queues = QueueTypes(self._keys, lambda command: self._pipeline.execute([command]))
        self._shown_until = 0.0
        self._is_checked = self._proof is None

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        return self._commands.portal

    async def tend(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Renew the lease, and own the wanted partitions; see `PortalConsumer.tend`.

        Raises:
            Unsupported: this Redis cannot make steps as durable as they have to be; nothing is owned.
        """
        if not self._is_checked:
            await self._check()
        call = self._commands.tend(wanted, stays=stays)
        (reply,) = await self._execute([call.command], is_repeatable=True)
        found = tend_reply(reply)
        if found.dead and stays:
            await self._reap()
        return found.ownership

    async def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Wait a moment for events; see `PortalConsumer.read`."""
        (reply,) = await self._execute(
            [self._commands.read(after)], is_repeatable=True, pipeline=self._waiting
        )
        return self._commands.events(reply)

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Apply steps; see `PortalConsumer.settle`."""
        commands = [self._commands.settle(some).command for some in chunks(steps, MAX_STEPS)]
        pipeline = self._pipeline if self._proof is None else self._settling
        replies = await self._execute(commands, is_repeatable=True, pipeline=pipeline, proof=self._proof)
        return [result for reply in replies for result in settled(reply)]

    async def overhear(self, after: str) -> tuple[str, list[WaitingEvent]]:
        """Wait a moment for events of any queue; see `PortalConsumer.overhear`."""
        now = asyncio.get_running_loop().time()
        if now >= self._shown_until:
            (end,) = await self._execute([self._commands.overhear().command], is_repeatable=True)
            self._shown_until = now + self._commands.lease / 3
            after = after or end.decode()
        (reply,) = await self._execute(
            [self._commands.listen(after)], is_repeatable=True, pipeline=self._waiting
        )
        events = overheard(reply)
        return (reply[0][1][-1][0].decode() if reply else after), events

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection; see `PortalConsumer.reply`."""
        call = self._commands.reply(envelope, node)
        (reply,) = await self._execute(
            [call.command], is_repeatable=envelope.remember > 0, known_for=envelope.remember
        )
        return bool(reply)

    async def backlog(self) -> Backlog:
        """Return the present backlog; see `PortalConsumer.backlog`."""
        (reply,) = await self._execute([survey(self._keys).command], is_repeatable=True)
        return surveyed(reply)

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        (reply,) = await self._execute([dead_letters(self._keys, limit)], is_repeatable=True)
        return dead(reply)

    async def revive(self, offsets: Sequence[str]) -> int:
        """Put dead letters back into their queues; return their number."""
        calls = [revive(self._keys, some) for some in chunks(offsets, MAX_STEPS)]
        return sum([(await self._execute([call.command]))[0] for call in calls])

    async def drop(self, offsets: Sequence[str]) -> int:
        """Delete dead letters; return their number."""
        commands = [drop(self._keys, some) for some in chunks(offsets, MAX_STEPS)]
        return sum([(await self._execute([command]))[0] for command in commands])

    async def aclose(self) -> None:
        """Disconnect."""
        await self._waiting.aclose()
        await self._settling.aclose()
        await self._pipeline.aclose()

    async def _check(self) -> None:
        """Check, before anything is owned, that this Redis can give the proof."""
        assert self._proof is not None  # noqa: S101 - else there is nothing to check
        await self._execute([("ZCOUNT", self._keys.portals, 0, 0)], is_repeatable=True)
        self._pipeline.check(self._proof)
        self._is_checked = True

    async def _reap(self) -> None:
        """End the connections of dead nodes."""
        more = 1
        while more == 1:
            (more,) = await self._execute([self._commands.reap().command], is_repeatable=True)

    async def _execute(
        self,
        commands: Sequence[Command],
        *,
        is_repeatable: bool = False,
        known_for: float = math.inf,
        pipeline: Pipeline | None = None,
        proof: Proof | None = None,
    ) -> list[Any]:
        """Run commands; if a key has the wrong type, set it aside and run them again."""
        chosen = pipeline or self._pipeline
        return await self._queues.run(
            lambda: chosen.carry_out(
                Batch(commands, is_repeatable=is_repeatable, known_for=known_for, proof=proof)
            )
        )
