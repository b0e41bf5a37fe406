"""A portal's end of the inbox at a hub."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from uuid import uuid4

from ...messages.envelope import Envelope
from ...settings import check_namespace
from ..inbox import Backlog, DeadLetter, Ownership, Step, WaitingEvent
from .backend import MemoryHub

WAIT = 0.1
"""Seconds that a read waits for events."""


class MemoryPortalConsumer:
    """`PortalConsumer` at a hub, for portals in the process of the servers.

    Args:
        hub: the cluster to join.
        namespace: that of the servers.
    """

    def __init__(self, hub: MemoryHub, *, namespace: str | None = None) -> None:
        self._cluster = hub.cluster(check_namespace(namespace))
        self._inbox = self._cluster.inbox
        self.portal_id = uuid4().hex
        self._is_observing = False

    async def tend(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Own the wanted queues that are free; see `PortalConsumer.tend`."""
        return self._inbox.tend(self.portal_id, wanted, stays=stays)

    async def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Wait a moment for events; see `PortalConsumer.read`."""
        found = self._inbox.read(after)
        if not found:
            await self._inbox.arrival(WAIT)
            found = self._inbox.read(after)
        return found

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Carry out steps; see `PortalConsumer.settle`."""
        return [
            result
            for _, some in groupby(steps, attrgetter("partition", "token"))
            for result in self._inbox.settle(self.portal_id, list(some))
        ]

    async def overhear(self, after: str) -> tuple[str, list[WaitingEvent]]:
        """Wait a moment for the events of all queues; see `PortalConsumer.overhear`."""
        if not self._is_observing:
            self._is_observing = True
            self._inbox.observers += 1
        after = after or self._inbox.end
        if not self._inbox.overhear(after):
            await self._inbox.arrival(WAIT)
        found = self._inbox.overhear(after)
        return (found[-1].offset if found else after), found

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection; see `PortalConsumer.reply`."""
        return self._cluster.reply(envelope, node)

    async def backlog(self) -> Backlog:
        """Return which events wait; see `PortalConsumer.backlog`."""
        return self._inbox.backlog()

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        return self._inbox.dead_letters(limit)

    async def revive(self, offsets: Sequence[str]) -> int:
        """Append dead letters to their queues; return their number."""
        return self._inbox.revive(offsets)

    async def drop(self, offsets: Sequence[str]) -> int:
        """Drop dead letters; return their number."""
        return self._inbox.drop(offsets)

    async def aclose(self) -> None:
        """Leave the hub."""
        if self._is_observing:
            self._is_observing = False
            self._inbox.observers -= 1
