"""Lease of a node, and the end of its ids' grace.

Without a lease, dispatches skip the node, and other nodes clean up after it. The *heart* renews the lease
every third of its length, and takes a new one when it was lost: the process was paused or cut off, or
Redis lost its data. The heart beats at once when Redis is reached again, and soon after a beat that
failed. It is a task of its own, so that long repairs never cost the lease, and beats on a connection of its
own, so that many logins do not either. With each beat it checks the main connection, too.

An id whose last connection ended is in grace. Redis keeps the ids in grace, and gives each to one node,
which reports it offline. The node that released an id looks one grace later; every heartbeat reports
whether ids are left over because the node that released them died.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ...concurrency.retry import retry_after
from ...concurrency.tasks import Tasks
from ...errors import BackendError, BackendRefused, BackendUnavailable
from ..base import Watcher
from ..redis_client.command import Call, Command
from ..redis_client.durability import Proof
from ..redis_client.pipeline import Pipeline
from ..redis_client.pipelines import Pipelines
from .runs import Runs
from .timing import BEATS

SLACK = 0.02
"""Seconds to look after the end of the grace, which the clock of Redis decides."""

SLOTS = 50
"""Maximum number of looks in one grace; one look serves the ids whose grace ends at about the same time."""

_NOTHING: Command = ("TIME",)
"""Changes nothing, and every node may run it."""

_log = logging.getLogger("mesa_ws.backend")


class Pulse(NamedTuple):
    """Reply to a heartbeat.

    Attributes:
        has_lease: False when the lease is lost and the node has to join.
        dead: number of nodes whose leases ran out.
        gone: number of ids whose grace is over, for `LeaseCommands.depart`.
        own: what only this wire reports.
        run: input of `Runs.ended`.
        was_passed_over: 1 if the lease ran out while Redis was away, so that messages may be missing.
    """

    has_lease: bool
    dead: int = 0
    gone: int = 0
    own: Sequence[Any] = ()
    run: Sequence[bytes] = (b"",)
    was_passed_over: int = 0

    @classmethod
    def of(cls, reply: Sequence[Any]) -> "Pulse":
        """Read the reply of a script."""
        return cls(reply[0] == 1, *reply[1:])


class LeaseCommands(Protocol):
    """Commands of a node that keep its lease and clean up after others, on either wire."""

    @property
    def node(self) -> str:
        """Id of the node."""

    @property
    def lease(self) -> float:
        """Seconds that a heartbeat lasts."""

    @property
    def grace(self) -> float:
        """Seconds that an id may be away."""

    def heartbeat(self, *, join: bool, connections: int, runs: tuple[str, str]) -> Sequence[Call | Command]:
        """Renew the lease, or take one; `pulse` reads the first reply, and `runs` is `Runs.args`."""

    def pulse(self, reply: Sequence[Any]) -> Pulse:
        """Read the first reply to `heartbeat`."""

    def claim(self) -> Sequence[Command]:
        """Record the layout for processes that start later."""

    def leave(self) -> Call:
        """Give up the lease and release some ids; the reply is 1 when there may be more."""

    def reap(self) -> Call:
        """Release some ids of a node whose lease ran out; the reply is 1 when there may be more."""

    def depart(self) -> Call:
        """Take some ids whose grace is over; the reply lists them."""


class LeaseHost(Protocol):
    """Receiver of a lease's events, in the event loop."""

    async def on_beat(self, pulse: Pulse) -> None:
        """Handle a renewed lease; a marker is on its way."""

    def on_doubt(self) -> None:
        """Handle a Redis that may have lost data, or was not reached."""

    def on_lost_lease(self) -> None:
        """Handle a lease that ran out: other nodes counted this one as dead."""

    async def clean_up(self, call: Call) -> int:
        """Run a call that releases ids; return 1 when there may be more."""


class LeaseKeeper:
    """Keeper of one node's lease.

    Args:
        pipelines: the connections to Redis.
        commands: commands of the node.
        host: receives the events.
        tasks: owner of the heart's task.

    Attributes:
        connections: number of connections of the node, which heartbeats report.
        joins: how often the node took a lease.
        runs: runs of Redis that this node saw.
    """

    def __init__(self, pipelines: Pipelines, commands: LeaseCommands, host: LeaseHost, tasks: Tasks) -> None:
        self.connections = 0
        self.joins = 0
        self.runs = Runs()
        self._pipeline = pipelines.main
        self._heart = pipelines.heart
        self._commands = commands
        self._host = host
        self._tasks = tasks
        self._lease_ends = 0.0
        self._is_cut_off = False
        self._joining = asyncio.Lock()
        self._reconnected = asyncio.Event()
        self._found_dead = asyncio.Event()

    @property
    def has_lease(self) -> bool:
        """Whether other nodes certainly count this one as alive."""
        return time.monotonic() < self._lease_ends

    async def open(self) -> None:
        """Take the lease, and keep it from now on.

        Raises:
            BackendUnavailable: Redis did not answer.
            BackendRefused: Redis refused.
        """
        await self._join()
        self._pipeline.on_reconnect = self._on_reconnect
        self._tasks.start(self._beat_forever, "heart")
        self._tasks.start(self._reap_forever, "reaper")

    async def execute(
        self, calls: Sequence[Call | Command], pipeline: Pipeline | None = None, proof: Proof | None = None
    ) -> list[Any]:
        """Run calls that need the lease; if it was lost, take a new one and run them again.

        A second run of the calls must change nothing: they are repeated when their connection breaks.

        Args:
            calls: the calls.
            pipeline: the connection; the main one by default.
            proof: the durability to wait for afterwards.

        Raises:
            BackendError: the calls failed.
        """
        joins = self.joins
        commands = [call.command if isinstance(call, Call) else call for call in calls]

        async def carry_out() -> list[Any]:
            return await (pipeline or self._pipeline).execute(commands, is_repeatable=True, proof=proof)

        replies = await carry_out()
        if 0 in replies:
            await self._rejoin(joins)
            replies = await carry_out()
            if 0 in replies:
                raise BackendUnavailable("redis: this node lost its lease again at once")
        return replies

    async def run(self, *calls: Call | Command) -> list[Any]:
        """Run calls that need no lease."""
        return await self._pipeline.execute(_commands(calls))

    async def leave(self) -> None:
        """Give up the lease and release the ids, so that they do not count as connected."""
        self._lease_ends = 0.0
        with suppress(BackendError):
            await self._repeat(self._commands.leave())

    def _on_reconnect(self) -> None:
        """Beat at once: Redis may have been away, for this node or for all."""
        self._host.on_doubt()
        self._reconnected.set()

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
            except Exception:  # noqa: BLE001  # without a heartbeat the node would count as dead
                _log.exception("node %s: a heartbeat failed", self._commands.node)

    async def _rest(self, pause: float) -> None:
        """Wait for some time, or until Redis is reached again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._reconnected.wait()
        self._reconnected.clear()

    async def _beat(self, *, join: bool) -> bool:
        """Renew or take the lease; return whether the node has it."""
        start = time.monotonic()
        beat = self._commands.heartbeat(join=join, connections=self.connections, runs=self.runs.args)
        self._pipeline.post([_NOTHING], self._host.on_doubt, is_repeatable=True)
        replies = await self._heart.execute(_commands(beat), is_repeatable=True)
        pulse = self._commands.pulse(replies[0])
        if pulse.has_lease:
            if self._is_cut_off:
                _log.info("node %s: has its lease again", self._commands.node)
            self._is_cut_off, self._lease_ends = False, start + self._commands.lease
            await self._host.on_beat(pulse)
        if pulse.dead:
            self._found_dead.set()
        return pulse.has_lease

    async def _join(self) -> None:
        await self._beat(join=True)
        self.joins += 1
        with suppress(
            BackendRefused
        ):  # a full Redis refuses, and a node works without the record of the layout
            await self.run(*self._commands.claim())

    async def _rejoin(self, joins: int) -> None:
        """Renew the lease, or take another one, unless that was done since `joins` was read.

        A lease that ran out while Redis was away can be renewed.
        """
        async with self._joining:
            if self.joins != joins or await self._beat(join=False):
                return
            _log.warning(
                "node %s: its lease ran out, so other nodes counted it as dead; it reads the messages stored "
                "since then",
                self._commands.node,
            )
            self._host.on_lost_lease()
            self._host.on_doubt()
            await self._join()

    def _lose(self, error: BackendError) -> None:
        if not self._is_cut_off:
            # The rest of that text is about a message, and a heartbeat has none.
            why = error.problem if isinstance(error, BackendUnavailable) else error
            _log.warning("node %s: cannot renew its lease: %s", self._commands.node, why)
        self._is_cut_off, self._lease_ends = True, 0.0
        self._host.on_doubt()

    async def _reap_forever(self) -> None:
        """Clean up after dead nodes, whenever a heartbeat found some."""
        while True:
            await self._found_dead.wait()
            self._found_dead.clear()
            _log.info("node %s: cleaning up after nodes whose lease ran out", self._commands.node)
            try:
                await self._repeat(self._commands.reap())
            except BackendError as error:
                _log.debug("node %s: cleaning up failed: %s", self._commands.node, error)

    async def _repeat(self, call: Call) -> None:
        """Run `call` until its reply says that nothing is left."""
        while await self._host.clean_up(call) == 1:
            pass


def _commands(calls: Sequence[Call | Command]) -> list[Command]:
    return [call.command if isinstance(call, Call) else call for call in calls]


class GraceWatch:
    """Watch for ids whose grace is over; reports them offline.

    Args:
        pipeline: the connection to Redis.
        commands: commands of the node.
        watcher: receives the ids.
    """

    def __init__(self, pipeline: Pipeline, commands: LeaseCommands, watcher: Watcher) -> None:
        self._pipeline = pipeline
        self._commands = commands
        self._watcher = watcher
        self._dues: deque[float] = deque()
        self._planned = asyncio.Event()

    def plan(self) -> None:
        """Plan a look one grace from now, because ids were released."""
        due = asyncio.get_running_loop().time() + self._commands.grace + SLACK
        if not self._dues or due > self._dues[-1]:
            self._dues.append(due + self._commands.grace / SLOTS)
            self._planned.set()

    def look(self) -> None:
        """Look now, because a heartbeat found ids whose grace is over."""
        self._dues.appendleft(0.0)
        self._planned.set()

    async def run(self) -> None:
        """Look at every planned time; never returns."""
        while True:
            await self._wait()
            try:
                await self._look()
            except BackendError as error:
                _log.debug(
                    "node %s: reading the ids that went offline failed: %s", self._commands.node, error
                )

    async def _wait(self) -> None:
        """Wait for the next planned look, and drop all planned looks that are due."""
        loop = asyncio.get_running_loop()
        while not self._dues or self._dues[0] > loop.time():
            self._planned.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._dues[0] if self._dues else None):
                    await self._planned.wait()
        while self._dues and self._dues[0] <= loop.time():
            self._dues.popleft()

    async def _look(self) -> None:
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
            _log.exception("the server failed to handle that %r went offline", id)
