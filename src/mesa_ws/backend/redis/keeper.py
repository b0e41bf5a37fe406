"""Keeps a node's seat: its lease, and that Redis knows whom the node holds.

Two tasks run side by side, so that much to repair never costs the lease:

- the *heart* renews the lease every third of it, and takes a new one when it was lost, because the
  process was paused, cut off, or Redis forgot;
- the *repair* makes Redis agree with the roster whenever there is doubt: after a lost lease, a new
  connection (to a Redis that may have lost its last seconds), or a failed call. It also renews what
  Redis keeps for ids that stay connected for a long time.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

from ...errors import BackendError, BackendRefused, BackendUnavailable
from .link import Link
from .plan import MAX_IDS, Call, Command, Pulse, Seat, chunks
from .roster import Roster

BEATS = 3
"""Heartbeats in one lease: two may fail."""

_log = logging.getLogger("mesa_ws.backend")


class Keeper:
    """Looks after the seat of one node until it is closed.

    Args:
        link: the connection to Redis.
        seat: the node's calls.
        roster: whom the node holds.
        on_beat: called after each renewed lease.
    """

    def __init__(
        self, link: Link, seat: Seat, roster: Roster, on_beat: Callable[[], Awaitable[None]]
    ) -> None:
        self._link = link
        self._seat = seat
        self._roster = roster
        self._on_beat = on_beat
        self._lease_ends = 0.0
        self._is_cut_off = False
        self._joins = 0
        self._joining = asyncio.Lock()
        self._is_repaired = True
        self._is_reaping = False
        self._doubt = asyncio.Event()
        self._generation = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_settled(self) -> bool:
        """Whether the node has its lease, and Redis agrees with its roster."""
        return time.monotonic() < self._lease_ends and self._is_repaired

    async def open(self) -> None:
        """Take the lease, and keep it from now on.

        Raises:
            BackendUnavailable: Redis gave no answer.
            BackendRefused: it said no.
        """
        await self._join()
        self._generation = self._link.generation
        self._start(self._beat_forever(), "heart")
        self._start(self._repair_forever(), "repair")

    async def attach(self, held: dict[str, tuple[int, int]]) -> None:
        """Record `held`; takes a new lease first if it was lost meanwhile."""
        joins = self._joins
        if not await self._is_attached(held):
            await self._rejoin(joins)
            if not await self._is_attached(held):
                raise BackendUnavailable("redis: the lease of this node was lost again at once")

    def doubt(self) -> None:
        """Redis may not agree with the roster any more: make it so, soon."""
        self._is_repaired = False
        self._doubt.set()

    async def aclose(self) -> None:
        """Give up the lease and forget the ids, so that nobody takes them for connected."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._lease_ends = 0.0
        with suppress(BackendError):
            await self._repeat(self._seat.leave())

    def _start(self, job: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(job, name=f"mesa-redis-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _beat_forever(self) -> None:
        while True:
            await asyncio.sleep(self._seat.lease / BEATS)
            joins = self._joins
            try:
                if not await self._beat(join=False):
                    await self._rejoin(joins)
            except BackendError as error:
                self._lose(error)
            except Exception:  # noqa: BLE001  # whatever it was, without a heart the node is dead
                _log.exception("node %s: a heartbeat failed", self._seat.node)
            if self._link.generation != self._generation:
                self._generation = self._link.generation
                self.doubt()

    async def _beat(self, *, join: bool) -> bool:
        """Renew or take the lease; returns whether the node has it."""
        start = time.monotonic()
        pulse = Pulse.of((await self._run(*self._seat.heartbeat(join=join)))[0])
        if pulse.has_lease:
            if self._is_cut_off:
                _log.info("node %s: has its lease again", self._seat.node)
            self._is_cut_off, self._lease_ends = False, start + self._seat.lease
            await self._on_beat()
        if pulse.dead and not self._is_reaping:
            self._is_reaping = True
            self._start(self._reap(), "reaper")
        return pulse.has_lease

    async def _join(self) -> None:
        await self._beat(join=True)
        self._joins += 1
        with suppress(BackendRefused):  # a full Redis refuses, and the layout is no matter of life
            await self._run(*self._seat.claim())

    async def _rejoin(self, joins: int) -> None:
        """Take a lease anew, unless that has been done since `joins` was read."""
        async with self._joining:
            if self._joins != joins:
                return
            _log.warning("node %s: lost its lease; messages may have passed it over", self._seat.node)
            self.doubt()
            await self._join()

    def _lose(self, error: BackendError) -> None:
        if not self._is_cut_off:
            # The rest of the text is about a message, and there is none here.
            why = error.problem if isinstance(error, BackendUnavailable) else error
            _log.warning("node %s: cannot renew its lease: %s", self._seat.node, why)
        self._is_cut_off, self._lease_ends = True, 0.0
        self.doubt()

    async def _repair_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seat.expiry / 4):
                    await self._doubt.wait()
            self._doubt.clear()
            try:
                await self._repair()
            except BackendError as error:
                _log.debug("node %s: repair failed, once more: %s", self._seat.node, error)
                self.doubt()
                await asyncio.sleep(self._seat.lease / BEATS * random.uniform(0.5, 1))  # noqa: S311

    async def _repair(self) -> None:
        await self.attach({})
        for page in self._roster.pages(MAX_IDS):
            await self.attach(page)
        cursor = -1
        while cursor != 0:
            (reply,) = await self._run(self._seat.scan(max(cursor, 0)))
            cursor = int(reply[0])
            await self._forget_strangers([id.decode(errors="replace") for id in reply[1]])
        self._is_repaired = not self._doubt.is_set()

    async def _forget_strangers(self, ids: list[str]) -> None:
        for some in chunks(ids, MAX_IDS):
            strangers = self._roster.strangers(some)
            if strangers:
                await self._run(self._seat.detach(strangers, self._roster.version))

    async def _reap(self) -> None:
        _log.info("node %s: cleans up after nodes whose lease ran out", self._seat.node)
        try:
            await self._repeat(self._seat.reap())
        except BackendError as error:
            _log.debug("node %s: cleaning up failed: %s", self._seat.node, error)
        finally:
            self._is_reaping = False

    async def _repeat(self, call: Call) -> None:
        """Run `call` until there is nothing more for it to do."""
        more = 1
        while more == 1:
            (more,) = await self._run(call)

    async def _is_attached(self, held: dict[str, tuple[int, int]]) -> bool:
        (reply,) = await self._run(self._seat.attach(held))
        return bool(reply == 1)

    async def _run(self, *calls: Call | Command) -> list[Any]:
        return await self._link.execute([call.command if isinstance(call, Call) else call for call in calls])
