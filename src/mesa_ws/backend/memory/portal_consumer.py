"""A portal's end of the inbox at a hub."""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby, islice
from operator import attrgetter
from uuid import uuid4

from ...messages.envelope import Envelope
from ...settings import check_namespace
from ..inbox import READ_LIMITS, Backlog, DeadLetter, Ownership, Step, WaitingEvent
from .backend import MemoryHub
from .inbox import MemoryQueue

WAIT = 0.1
"""Seconds that a read waits for events."""


class MemoryPortalConsumer:
    """`PortalConsumer` at a hub, for portals in the process of the servers.

    Args:
        hub: the cluster to join.
        namespace: that of the servers.
    """

    def __init__(self, hub: MemoryHub, *, namespace: str | None = None) -> None:
        self._hub = hub
        self._cluster = hub.cluster(check_namespace(namespace))
        self._inbox = self._cluster.inbox
        self.portal_id = uuid4().hex
        self._has_entered = False
        self._is_observing = False

    async def heartbeat(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Own the wanted queues that are free; see `PortalConsumer.heartbeat`."""
        self._enter()
        inbox, portal = self._inbox, self.portal_id
        if stays:
            inbox.portals[portal] = None
        else:
            inbox.portals.pop(portal, None)
        for watch in inbox.watches.values():
            watch.look(inbox.portals)
        tokens = {}
        for number, queue in enumerate(inbox.queues):
            is_free = queue.owner != portal and queue.owner not in inbox.portals
            if number in wanted and (is_free or queue.owner == portal):
                if is_free:
                    queue.owner, queue.token = portal, queue.token + 1
                tokens[number] = queue.token
            elif queue.owner == portal:
                queue.owner = None
        return Ownership(tuple(sorted(inbox.portals)), tokens)

    async def read(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        """Wait a moment for events; see `PortalConsumer.read`."""
        found = self._waiting(after)
        if not found:
            await self._inbox.arrival(WAIT)
            found = self._waiting(after)
        return found

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Carry out steps; see `PortalConsumer.settle`."""
        results: list[int] = []
        for (partition, token), same in groupby(steps, attrgetter("partition", "token")):
            queue, some = self._inbox.queues[partition], list(same)
            if queue.owner != self.portal_id or queue.token != token:
                results += [-1] * len(some)
                continue
            is_repeated = queue.is_repeated(self.portal_id, max(step.attempt for step in some))
            results += [self._carry_out(queue, step, is_repeated=is_repeated) for step in some]
        return results

    async def observe(self, after: str) -> tuple[str, list[WaitingEvent]]:
        """Wait a moment for the events of all queues; see `PortalConsumer.observe`."""
        self._enter()
        inbox = self._inbox
        if not self._is_observing:
            self._is_observing = True
            inbox.observers += 1
        after = after or str(inbox.offset)
        found = inbox.observed.after(int(after))
        if not found:
            await inbox.arrival(WAIT)
            found = inbox.observed.after(int(after))
        return (found[-1].offset if found else after), found

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Send a message to one connection; see `PortalConsumer.reply`."""
        return self._cluster.reply(envelope, node)

    async def backlog(self) -> Backlog:
        """Return which events wait; see `PortalConsumer.backlog`."""
        return self._inbox.backlog()

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """Return the oldest dead letters."""
        return self._inbox.dead.after(0)[:limit]

    async def revive(self, offsets: Sequence[str]) -> int:
        """Append dead letters to their queues; return their number."""
        revived = [dead for each in offsets if (dead := self._inbox.dead.take(int(each))) is not None]
        for dead in revived:
            self._inbox.put(WaitingEvent("", dead.at, dead.event), is_new=False)
        return len(revived)

    async def drop(self, offsets: Sequence[str]) -> int:
        """Drop dead letters; return their number."""
        return sum(self._inbox.dead.take(int(offset)) is not None for offset in offsets)

    async def aclose(self) -> None:
        """Leave the hub."""
        if self._is_observing:
            self._is_observing = False
            self._inbox.observers -= 1
        if self._has_entered:
            self._has_entered = False
            self._hub.leave()

    def _enter(self) -> None:
        if not self._has_entered:
            self._hub.enter()
            self._has_entered = True

    def _waiting(self, after: Mapping[int, str]) -> list[WaitingEvent]:
        found, most = list[WaitingEvent](), READ_LIMITS[len(after)]
        for number, text in after.items():
            offset, events = int(text or 0), self._inbox.queues[number].events.items()
            found += islice((waiting for at, waiting in events if at > offset), most)
        return found

    def _carry_out(self, queue: MemoryQueue, step: Step, *, is_repeated: bool) -> int:
        inbox, offset = self._inbox, int(step.offset)
        if step.action == "begin":
            return queue.begin(offset, is_repeated=is_repeated)
        waiting, deliveries = queue.take_out(offset)
        if waiting is not None and step.action == "die":
            inbox.offset += 1
            number, at = str(inbox.offset), inbox.clock()
            inbox.dead.put(
                inbox.offset, DeadLetter(number, at, deliveries, step.reason, waiting.at, waiting.event)
            )
        elif waiting is not None and step.action == "reject":
            inbox.rejected += 1
        return 0
