"""A portal's seat at a hub."""

from collections.abc import Collection, Mapping, Sequence
from uuid import uuid4

from ...messages.envelope import Envelope
from ...settings import check_namespace
from ..inbox import Backlog, DeadLetter, Ownership, Step, Waiting, steps_of_queues
from .backend import MemoryHub

WAIT = 0.1
"""Seconds that reading waits for letters."""


class MemoryAttendance:
    """`Attendance` at a hub: portals of the process that the servers are in.

    Args:
        hub: the cluster to join.
        namespace: that of the servers.
    """

    def __init__(self, hub: MemoryHub, *, namespace: str | None = None) -> None:
        self._cluster = hub.cluster(check_namespace(namespace))
        self._inbox = self._cluster.inbox
        self._portal = uuid4().hex
        self._is_observing = False

    @property
    def portal_id(self) -> str:
        """Random name of this portal."""
        return self._portal

    async def tend(self, wanted: Collection[int], *, stays: bool = True) -> Ownership:
        """Own what is wanted and free; see `Attendance.tend`."""
        return self._inbox.tend(self._portal, wanted, stays=stays)

    async def read(self, after: Mapping[int, str]) -> list[Waiting]:
        """Wait a moment for letters; see `Attendance.read`."""
        found = self._inbox.read(after)
        if not found:
            await self._inbox.arrival(WAIT)
            found = self._inbox.read(after)
        return found

    async def settle(self, steps: Sequence[Step]) -> list[int]:
        """Carry out steps; see `Attendance.settle`."""
        return [
            result for some in steps_of_queues(steps) for result in self._inbox.settle(self._portal, some)
        ]

    async def overhear(self, after: str) -> tuple[str, list[Waiting]]:
        """Wait a moment for whatever is appended; see `Attendance.overhear`."""
        if not self._is_observing:
            self._is_observing = True
            self._inbox.watch(True)
        after = after or self._inbox.end
        if not self._inbox.overhear(after):
            await self._inbox.arrival(WAIT)
        found = self._inbox.overhear(after)
        return (found[-1].place if found else after), found

    async def reply(self, envelope: Envelope, node: str) -> bool:
        """Hand a message to one connection; see `Attendance.reply`."""
        return self._cluster.reply(envelope, node)

    async def backlog(self) -> Backlog:
        """What waits now; see `Attendance.backlog`."""
        return self._inbox.backlog()

    async def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The oldest dead letters."""
        return self._inbox.dead_letters(limit)

    async def revive(self, places: Sequence[str]) -> int:
        """Put dead letters back; count them."""
        return self._inbox.revive(places)

    async def drop(self, places: Sequence[str]) -> int:
        """Forget dead letters; count them."""
        return self._inbox.drop(places)

    async def aclose(self) -> None:
        """Leave the hub."""
        if self._is_observing:
            self._is_observing = False
            self._inbox.watch(False)
