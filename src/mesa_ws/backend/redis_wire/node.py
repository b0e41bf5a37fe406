"""An open node: it holds a lease, listens to Redis, and resynchronizes whenever there is doubt.

There is doubt after a lost lease, a new connection (to a Redis that may have lost its last
seconds), a lost subscription, a gap between the frames of the channel, or a call that failed. First the
node records its ids again, so that messages reach it from then on; then the server reads the messages
that may have passed it by; only then is the node ready.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from ...concurrency.limited_log import LimitedLog
from ...concurrency.retry import SpacedCall
from ...concurrency.tasks import Tasks
from ...errors import BackendError
from ..base import Watcher
from ..inbox import AppendResult, Capacity, InboxEvent
from ..outbox import Acknowledgement, Page, Read, Start
from ..redis_client.command import Call
from ..redis_client.pipelines import Pipelines
from ..redis_client.subscriber import Subscriber
from .lease import GraceWatch, LeaseCommands, LeaseKeeper, Pulse
from .timing import MISSED, Timing

SPREAD_IDS = 10_000
"""Number of ids for which a node waits up to a second before it reads, since other nodes read as well."""

_log = logging.getLogger("mesa_ws.backend")


class NodeMembers(Protocol):
    """Ids that a node holds, and their messages, on either wire."""

    def __len__(self) -> int: ...

    async def attach(self, id: str, sockets: int, start: Start | None) -> Page | None:
        """Record connections of `id`, and read its messages from `start` on."""

    def detach(self, id: str) -> None:
        """Remove `id`, which has no connections here any more; tell Redis without waiting."""

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages that follow positions."""

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Acknowledge messages without waiting."""

    async def synchronize(self) -> None:
        """Make Redis agree with the node about every id."""


class NodeChannel(Protocol):
    """What arrives for a node, on either wire."""

    unheard: int
    """Heartbeats since the last marker that arrived."""

    log: LimitedLog
    """Gets what foreign bytes cause."""


class NoWatcher:
    """Watcher that ignores every event."""

    def doubted(self) -> None:
        """Do nothing."""

    async def catch_up(self) -> None:
        """Do nothing."""

    def came_online(self, id: str) -> None:
        """Do nothing."""

    went_offline = portal_joined = portal_left = came_online

    def forked(self, since: float) -> None:
        """Do nothing."""


class WireNode:
    """An open node. Its subclass for a wire makes the attributes from `members` on.

    Args:
        pipelines: connections to Redis.
        commands: commands of the node.
        watcher: learns what happens; None if nothing has to.
        timing: durations of the lease and of calls.
        renewal: seconds after which the ids are recorded again although there is no doubt.
        retry: seconds until a resynchronization that failed is repeated, at most; half of it at least.

    Attributes:
        keeper: keeper of its lease.
        members: ids that it holds.
        channel: reads what arrives for it.
        subscriber: connection on which it listens.
        append: passes an event to portals, if its queue has the capacity.
        rereads: synchronizes after the server failed to deliver a message, but not in a loop.
    """

    members: NodeMembers
    channel: NodeChannel
    subscriber: Subscriber
    append: Callable[[tuple[InboxEvent, Capacity]], Awaitable[AppendResult]]

    def __init__(
        self,
        pipelines: Pipelines,
        commands: LeaseCommands,
        watcher: Watcher | None,
        timing: Timing,
        *,
        renewal: float,
        retry: float,
    ) -> None:
        self.pipelines = pipelines
        self._is_watched = watcher is not None
        self._watcher = watcher or NoWatcher()
        self._timeout = timing.timeout
        self._renewal = renewal
        self._retry = retry
        self._tasks = Tasks()
        self._grace_watch = GraceWatch(pipelines.main, commands, self._watcher)
        self._doubt = asyncio.Event()
        self._is_synchronized = True
        self.rereads = SpacedCall(self.on_doubt, retry)
        self.keeper = LeaseKeeper(pipelines, commands, self, self._tasks)

    @property
    def is_ready(self) -> bool:
        """Whether messages reach this node, and none has passed it by."""
        return self.subscriber.is_subscribed and self.keeper.has_lease and self._is_synchronized

    async def open(self) -> None:
        """Subscribe, then take the lease: from then on other processes send to this node."""
        await self.subscriber.open()
        await self.keeper.open()
        self._tasks.start(self._resynchronize_forever, "resync")
        if self._is_watched:
            self._tasks.start(self._grace_watch.run, "grace watch")

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._tasks.aclose(self._timeout)
                    await self.leave()
        finally:
            await self.subscriber.aclose()
            await self.pipelines.aclose()
            self.channel.log.close()

    async def leave(self) -> None:
        """Give up the lease and all ids."""
        await self.keeper.leave()

    async def on_beat(self, pulse: Pulse) -> None:
        """Handle a heartbeat: if the markers of earlier ones never arrived, the subscription is dead."""
        self.channel.unheard += 1
        if self.channel.unheard > MISSED:
            self.channel.unheard = 0
            await self.subscriber.restart()
        if pulse.was_passed_over:
            self.on_doubt()
        since = self.keeper.runs.ended(pulse.run)
        if since is not None:
            self._watcher.forked(since)
        if pulse.gone:
            self._grace_watch.look()

    def on_doubt(self) -> None:
        """Synchronize soon: messages may have been missed, or Redis may have lost data."""
        self._is_synchronized = False
        self._doubt.set()
        self._watcher.doubted()

    def on_lost_lease(self) -> None:
        """Handle a lease that ran out; the keeper reports a doubt, too."""

    async def clean_up(self, call: Call) -> int:
        """Run a call that releases ids; return 1 when there may be more."""
        (more,) = await self.keeper.run(call)
        return int(more)

    async def _resynchronize_forever(self) -> None:
        """Synchronize after every doubt, and record the ids again at intervals."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._renewal):
                    await self._doubt.wait()
            try:
                await self._resynchronize()
            except BackendError as error:
                _log.debug("synchronizing with Redis failed, retrying: %s", error)
                self.on_doubt()
                await asyncio.sleep(self._retry * random.uniform(0.5, 1))  # noqa: S311
            except Exception:
                self.on_doubt()
                raise

    async def _resynchronize(self) -> None:
        is_doubtful = self._doubt.is_set()
        self._doubt.clear()
        await self.members.synchronize()
        if is_doubtful:
            spread = min(1.0, len(self.members) / SPREAD_IDS)
            await asyncio.sleep(random.uniform(0, spread))  # noqa: S311
            await self._watcher.catch_up()
        self._is_synchronized = not self._doubt.is_set()
