"""Keeps a node's lease: without it messages pass the node over, and others clean up after it.

The *heart* renews the lease every third of it, and takes a new one when it was lost, because the
process was paused, cut off, or Redis forgot. It beats at once when Redis is reached again, and soon after a
beat that failed. It is a task of its own, so that much to repair never costs the lease.

Tells a server which ids went offline, when their grace is over.

Redis keeps the ids in grace, and gives each to one node alone. Whoever saw an id off looks a grace
later; every heartbeat says whether some were forgotten, because the node that saw them off died.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from ...concurrency.retry import retry_after
from ...concurrency.tasks import Tasks
from ...errors import BackendError, BackendRefused, BackendUnavailable
from ..base import Watcher
from ..redis_client.batch import Batch
from ..redis_client.command import Call, Command
from ..redis_client.durability import Proof
from ..redis_client.pipeline import Pipeline
from .node_commands import NodeCommands, Pulse
from .queue_types import QueueTypes
from .runs import Runs

BEATS = 3
"""Heartbeats in one lease: two may fail."""

_log = logging.getLogger("mesa_ws.backend")


class LeaseHost(Protocol):
    """What a keeper reports to, in the event loop."""

    async def on_beat(self, pulse: Pulse) -> None:
        """The lease was renewed, and a marker is under way."""

    def on_doubt(self) -> None:
        """Redis may have forgotten things, or was not reached."""

    def on_lost_lease(self) -> None:
        """Others took this node for dead."""


class LeaseKeeper:
    """Looks after the lease of one node until it is closed.

    Args:
        pipeline: the connection to Redis.
        commands: the node's calls.
        host: who has to know.
        tasks: what the heart runs in.

    Attributes:
        connections: how many the node has, as heartbeats tell.
        joins: how often it took a lease.
        runs: of Redis, as far as this node saw them.
        queues: repeats calls about queues of portals where one is of another type.
    """

    def __init__(self, pipeline: Pipeline, commands: NodeCommands, host: LeaseHost, tasks: Tasks) -> None:
        self.connections = 0
        self.joins = 0
        self.runs = Runs()
        self.queues = QueueTypes(commands.keys, self.run, commands.node)
        self._pipeline = pipeline
        self._commands = commands
        self._host = host
        self._tasks = tasks
        self._lease_ends = 0.0
        self._is_cut_off = False
        self._joining = asyncio.Lock()
        self._news = asyncio.Event()
        self._dead = asyncio.Event()

    @property
    def has_lease(self) -> bool:
        """Whether others certainly take this node for alive."""
        return time.monotonic() < self._lease_ends

    async def open(self) -> None:
        """Take the lease, and keep it from now on.

        Raises:
            BackendUnavailable: Redis gave no answer.
            BackendRefused: it said no.
        """
        await self._join()
        self._pipeline.on_reconnect = self._on_reconnect
        self._tasks.start(self._beat_forever, "heart")
        self._tasks.start(self._reap_forever, "reaper")

    async def execute(
        self, calls: Sequence[Call], pipeline: Pipeline | None = None, proof: Proof | None = None
    ) -> list[Any]:
        """Carry out calls that need the lease; takes a new one first if it was lost meanwhile.

        They have to be such that once more changes nothing: they are sent again when their
        connection broke.

        Args:
            calls: what is asked.
            pipeline: the connection; that of the lease by default.
            proof: what has to be waited for afterwards.

        Raises:
            BackendError: it was not done.
        """
        joins = self.joins
        commands = [call.command for call in calls]

        async def carry_out() -> list[Any]:
            return await (pipeline or self._pipeline).carry_out(
                Batch(commands, is_repeatable=True, proof=proof)
            )

        replies = await carry_out()
        if 0 in replies:
            await self._rejoin(joins)
            replies = await carry_out()
            if 0 in replies:
                raise BackendUnavailable("redis: the lease of this node was lost again at once")
        return replies

    async def run(self, *calls: Call | Command) -> list[Any]:
        """Carry out calls that need no lease."""
        return await self._pipeline.execute(
            [call.command if isinstance(call, Call) else call for call in calls]
        )

    async def leave(self) -> None:
        """Give up the lease and forget the ids, so that nobody takes them for connected."""
        self._lease_ends = 0.0
        with suppress(BackendError):
            await self._repeat(self._commands.leave())

    def _on_reconnect(self) -> None:
        """Redis may have been away, for this node or for all: show at once that it lives."""
        self._host.on_doubt()
        self._news.set()

    async def _beat_forever(self) -> None:
        pause = self._commands.lease / BEATS
        while True:
            await self._rest(pause)
            joins = self.joins
            try:
                if not await self._beat(join=False):
                    await self._rejoin(joins)
                pause = self._commands.lease / BEATS
            except BackendError as error:
                self._lose(error)
                pause = retry_after(self._commands.lease)
            except Exception:  # noqa: BLE001  # whatever it was, without a heart the node is dead
                _log.exception("node %s: a heartbeat failed", self._commands.node)

    async def _rest(self, pause: float) -> None:
        """Wait for some time, or until Redis is reached again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._news.wait()
        self._news.clear()

    async def _beat(self, *, join: bool) -> bool:
        """Renew or take the lease; returns whether the node has it."""
        start = time.monotonic()
        beat = self._commands.heartbeat(join=join, connections=self.connections, runs=self.runs.args)
        replies = await self._pipeline.execute([beat[0].command, beat[1]], is_repeatable=True)
        pulse = Pulse.of(replies[0])
        if pulse.has_lease:
            if self._is_cut_off:
                _log.info("node %s: has its lease again", self._commands.node)
            self._is_cut_off, self._lease_ends = False, start + self._commands.lease
            await self._host.on_beat(pulse)
        if pulse.dead:
            self._dead.set()
        return pulse.has_lease

    async def _join(self) -> None:
        await self._beat(join=True)
        self.joins += 1
        with suppress(BackendRefused):  # a full Redis refuses, and the layout is no matter of life
            await self.run(*self._commands.claim())

    async def _rejoin(self, joins: int) -> None:
        """Renew the lease, or take another one, unless that has been done since `joins` was read.

        One that ran out while Redis was away can be renewed.
        """
        async with self._joining:
            if self.joins != joins or await self._beat(join=False):
                return
            _log.warning(
                "node %s: its lease ran out, others took it for dead; what was stored meanwhile is read",
                self._commands.node,
            )
            self._host.on_lost_lease()
            self._host.on_doubt()
            await self._join()

    def _lose(self, error: BackendError) -> None:
        if not self._is_cut_off:
            # The rest of the text is about a message, and there is none here.
            why = error.problem if isinstance(error, BackendUnavailable) else error
            _log.warning("node %s: cannot renew its lease: %s", self._commands.node, why)
        self._is_cut_off, self._lease_ends = True, 0.0
        self._host.on_doubt()

    async def _reap_forever(self) -> None:
        """Clean up after the dead, whenever a heartbeat found some."""
        while True:
            await self._dead.wait()
            self._dead.clear()
            _log.info("node %s: cleans up after nodes whose lease ran out", self._commands.node)
            try:
                await self._repeat(self._commands.reap())
            except BackendError as error:
                _log.debug("node %s: cleaning up failed: %s", self._commands.node, error)

    async def _repeat(self, call: Call) -> None:
        """Run `call` until there is nothing more for it to do."""
        more = 1
        while more == 1:
            (more,) = await self.queues.run(lambda: self.run(call))


SLACK = 0.02
"""Seconds to look later than the grace says: the clock is that of Redis."""

SLOTS = 50
"""Looks in one grace, at most; ids whose grace is over at about the same time are one."""


class SweepHost(Protocol):
    """The node, and its call."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def grace(self) -> float:
        """Seconds that an id may be away."""

    def depart(self) -> Call:
        """Take some ids whose grace is over; the reply is them."""


class GraceWatch:
    """Looks for ids whose grace is over.

    Args:
        pipeline: the connection to Redis.
        commands: the node's calls.
        watcher: who is told.
    """

    def __init__(self, pipeline: Pipeline, commands: SweepHost, watcher: Watcher) -> None:
        self._pipeline = pipeline
        self._commands = commands
        self._watcher = watcher
        self._dues: deque[float] = deque()
        self._news = asyncio.Event()

    def seen_off(self) -> None:
        """Ids were given up just now, so that there is something to find a grace later."""
        due = asyncio.get_running_loop().time() + self._commands.grace + SLACK
        if not self._dues or due > self._dues[-1]:
            self._dues.append(due + self._commands.grace / SLOTS)
            self._news.set()

    def look(self) -> None:
        """There is something to find now."""
        self._dues.appendleft(0.0)
        self._news.set()

    async def run(self) -> None:
        """Look whenever it is time; never ends."""
        while True:
            await self._wait()
            try:
                await self._sweep()
            except BackendError as error:
                _log.debug("node %s: looking for who is offline failed: %s", self._commands.node, error)

    async def _wait(self) -> None:
        """Wait for the first time to look, and forget it and those that passed with it."""
        loop = asyncio.get_running_loop()
        while not self._dues or self._dues[0] > loop.time():
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._dues[0] if self._dues else None):
                    await self._news.wait()
        while self._dues and self._dues[0] <= loop.time():
            self._dues.popleft()

    async def _sweep(self) -> None:
        while True:
            (ids,) = await self._pipeline.execute([self._commands.depart().command])
            for id in ids:
                self._tell(id.decode(errors="replace"))
            if not ids:
                return

    def _tell(self, id: str) -> None:
        try:
            self._watcher.went_offline(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server could not be told that %r went offline", id)
