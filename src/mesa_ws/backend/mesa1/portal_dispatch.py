"""A server's dispatch of events to portals: it knows the portals, publishes events, and finds dead portals.

An event is published once, for the portal whose turn it is, and a portal that is away misses it. So the
server compares the number of connections that heard the event with the number of portals and with the
listeners of the event before: if fewer heard it, a portal may be dead. The server publishes an event again
only if its portal certainly did not hear it: the portal's connection is gone, as many other connections
are there as have heard the event, and none of them has come since.
"""

import asyncio
import logging
import random
from collections.abc import Container
from contextlib import suppress
from typing import Any
from uuid import uuid4

from ...concurrency.limited_log import LimitedLog
from ...concurrency.retry import LimitedWarning
from ...errors import BackendError, BackendRefused, BackendUnavailable
from ..base import Watcher
from ..inbox import AppendResult, InboxEvent
from ..redis_client.command import Call, Command
from ..redis_client.pipeline import Pipeline
from .commands import Mesa1NodeCommands
from .payloads import InvalidPayload, event_payload, read_notice
from .portal_liveness import (
    SUBSCRIBERS,
    PoolSnapshot,
    PortalLiveness,
    Subscribers,
    Verdict,
    look,
    remove_portal,
    restore_portals,
)


class PortalPool:
    """Portals in the order in which they came, each once.

    Args:
        spreads: portals take turns, as with 1.x: the index advances before it is used, so the second portal
            gets the first event. Otherwise each event goes to a random portal.
    """

    def __init__(self, *, spreads: bool) -> None:
        self.spreads = spreads
        self._ids: list[str] = []
        self._index = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all portals."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def join(self, id: str) -> bool:
        """Add a portal; return whether it is new."""
        if id in self._ids:
            return False
        self._ids.append(id)
        return True

    def leave(self, id: str) -> bool:
        """Remove a portal; return whether it was there."""
        if id not in self._ids:
            return False
        self._ids.remove(id)
        return True

    def choose(self, avoid: Container[str] = ()) -> str | None:
        """Return the portal of the next event; a portal in `avoid` only if there is no other."""
        rest = [id for id in self._ids if id not in avoid] or self._ids
        if not rest:
            return None
        if len(self._ids) == 1:
            return rest[0]
        if not self.spreads:
            return random.choice(rest)  # noqa: S311 - spreads load
        while True:
            self._index = self._index + 1 if self._index + 1 < len(self._ids) else 0
            if self._ids[self._index] in rest:
                return self._ids[self._index]


PATIENCE = 5.0
"""Seconds, or a third of the lease if that is less, in which a portal that was cut off may come back."""

SILENCE = 1.0
"""Seconds for which an event without a listener waits, and its client with it; at most `PATIENCE`."""

PAUSE = 0.05
"""Seconds between attempts to reach a portal, and before a second look at a portal that joined."""

STALE = 0.5
"""Seconds after which a snapshot says nothing about an event that was just published."""

_log = logging.getLogger("mesa_ws.backend")


class PortalDispatch:
    """The portals that one node knows; in one event loop.

    Args:
        pipeline: the connection to Redis.
        commands: the node's names and times.
        watcher: learns which portals come and go; must not raise.
        spreads: whether portals take turns.
        log: gets what foreign bytes cause.

    Attributes:
        dropped: number of events that were dropped because no portal was there.
        doubtful: number of events that may not have reached Redis.
        garbage: number of payloads that were no notices.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        commands: Mesa1NodeCommands,
        watcher: Watcher,
        *,
        spreads: bool,
        log: LimitedLog,
    ) -> None:
        self._log = log
        self.dropped = 0
        self.doubtful = 0
        self.garbage = 0
        self._pipeline = pipeline
        self._commands = commands
        self._watcher = watcher
        self._patience = min(PATIENCE, commands.lease / 3)
        self._pool = PortalPool(spreads=spreads)
        self._liveness = PortalLiveness(self._patience)
        self._changes: dict[str, float] = {}
        self._era = ""
        self._snapshot: PoolSnapshot | None = None
        self._looked_at = 0.0
        self._connections: frozenset[int] = frozenset()
        self._appeared_at = 0.0
        self._looking = asyncio.Lock()
        self._silent_since: float | None = None
        self._audience = 0
        self._news = asyncio.Event()
        self._nobody, self._lost, self._unclear = LimitedWarning(), LimitedWarning(), LimitedWarning()

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the portals that take events."""
        return self._pool.ids

    def hear(self, payload: bytes) -> None:
        """Handle a notice of `available_portals_pool`."""
        try:
            notice = read_notice(payload)
        except InvalidPayload as error:
            self.garbage += 1
            pool = self._commands.keys.pool
            self._log.warning("ignored %d bytes on %r: %s", len(payload), pool, error, kind=pool)
            return
        self._changes[notice.portal_id] = asyncio.get_running_loop().time()
        self._set(notice.portal_id, is_there=notice.is_ready)
        self._looked_at = 0.0  # older snapshots say nothing about these portals
        self._news.set()

    def doubt(self) -> None:
        """Look soon: the node may have missed notices."""
        self._news.set()

    async def run(self) -> None:
        """Look at once when a portal has joined or left, and otherwise at intervals."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._news.wait()
            is_news = self._news.is_set()
            self._news.clear()
            try:
                await self.look()
                if is_news:  # one that joins may subscribe a moment later
                    await asyncio.sleep(PAUSE)
                    await self.look()
            except BackendError as error:
                _log.debug("node %s: cannot read the pool of portals: %s", self._commands.node, error)
                await asyncio.sleep(PAUSE)

    async def append(self, event: InboxEvent) -> AppendResult:
        """Publish an event to a portal, at most once; without portals it is dropped and counted.

        Raises:
            BackendError: Redis cannot be reached or refuses; the event was not published.
        """
        avoid: set[str] = set()
        while True:
            portal = self._pool.choose(self._liveness.suspects | avoid)
            if portal is None or portal in avoid:
                return self._drop()
            expected = max(len(self._pool), self._audience)  # both may change while it is published
            told_at = asyncio.get_running_loop().time()
            heard = await self._publish(event, portal)
            if heard == 0:
                if await self._stays_silent():
                    return self._drop()
                continue
            self._silent_since = None
            if heard is not None and heard > self._audience:
                self._audience, self._looked_at = heard, 0.0  # a listener has come since
            if heard is None or heard >= expected or not await self._missed(portal, heard, told_at):
                return "taken"
            avoid.add(portal)

    async def look(self) -> None:
        """Read the pool of portals, and remove dead portals; raise `BackendError` if Redis did not answer."""
        asked = asyncio.get_running_loop().time()
        async with self._looking:
            if self._looked_at <= asked:
                await self._look()

    async def _look(self) -> None:
        now = self._looked_at = asyncio.get_running_loop().time()
        call = look(self._commands.keys, uuid4().hex, self._commands.expiry, self._commands.lease)
        snapshot = self._snapshot = PoolSnapshot.of(await self._ask(call.command))
        self._audience = snapshot.listeners
        subscribers = await self._subscribers()
        await self._agree(snapshot, now)
        verdict = self._liveness.observe(snapshot, subscribers, self._pool.ids, now)
        await self._act(snapshot, verdict, is_heard=self._liveness.others > 0)

    async def _agree(self, snapshot: PoolSnapshot, now: float) -> None:
        """Make the node's pool that of Redis; if Redis has lost its data, put the portals back there."""
        has_forgotten = self._era not in ("", snapshot.era)
        self._era = snapshot.era
        self._changes = {id: at for id, at in self._changes.items() if at > now - self._patience}
        if has_forgotten and len(self._pool):
            _log.warning("Redis has lost the pool of portals; %d portals are put back", len(self._pool))
            living = [id for id in self._pool.ids if id not in self._liveness.suspects] or self._pool.ids
            await self._ask(("SADD", self._commands.keys.pool, *living))
            return
        for id in snapshot.members - set(self._changes):
            self._set(id, is_there=True)
        for id in set(self._pool.ids) - snapshot.members - set(self._changes):
            self._set(id, is_there=False)

    async def _act(self, snapshot: PoolSnapshot, verdict: Verdict, *, is_heard: bool) -> None:
        """Carry out the verdict; if a portal of 1.x may listen, put those back that seemed dead."""
        expiry = self._commands.expiry
        for why, ids in (("ours", verdict.ours), ("theirs", verdict.theirs)):
            for id in ids:
                _log.warning("portal %s is dead; it gets no more events", id)
                self._set(id, is_there=False)
                await self._run(remove_portal(self._commands.keys, id, why, expiry))
        if verdict.unclear:
            self._unclear.warn(
                _log,
                "%d of the portals of 1.x are dead, and it is not clear which, so their events are lost: "
                "restart them one after another, or remove the dead ids from %r",
                verdict.unclear,
                self._commands.keys.pool,
            )
        if snapshot.gone and is_heard and not len(self._pool):
            _log.warning("a process listens for events; %d portals of 1.x are put back", len(snapshot.gone))
            await self._run(restore_portals(self._commands.keys, sorted(snapshot.gone)))

    async def _publish(self, event: InboxEvent, portal: str) -> int | None:
        """Publish an event; return how many connections heard it, or None if that is not known."""
        payload = event_payload(event, portal)
        try:
            return int(await self._ask(("PUBLISH", self._commands.keys.portal, payload), is_repeatable=False))
        except BackendUnavailable as error:
            if not error.maybe_sent:
                raise
            self.doubtful += 1
            self._lost.warn(_log, "an event may not have reached portals; it is not repeated (%s)", error)
            return None

    async def _missed(self, portal: str, heard: int, told_at: float) -> bool:
        """Return whether a portal certainly did not hear an event that so many connections have heard.

        A portal that has left may have heard it, and so may one whose connection has ended since.
        """
        if not self._has_looked(heard):
            with suppress(BackendError):
                await self.look()
        is_as_then = self._has_looked(heard) and self._appeared_at < told_at
        return is_as_then and portal in self._liveness.suspects | self._liveness.unheard

    def _has_looked(self, heard: int) -> bool:
        """Return whether a recent snapshot has so many listeners."""
        age = asyncio.get_running_loop().time() - self._looked_at
        return age < STALE and self._snapshot is not None and self._snapshot.listeners == heard

    async def _stays_silent(self) -> bool:
        """Wait a moment for a listener of an event that no connection heard; return whether none came."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        with suppress(BackendError):
            await self.look()
        if now - self._silent_since >= min(SILENCE, self._patience):
            return True
        if len(self._pool):
            await asyncio.sleep(PAUSE)
        return False

    def _drop(self) -> AppendResult:
        self.dropped += 1
        self._nobody.warn(
            _log,
            "there is no portal: %d events were dropped so far; start a portal, or pass portals=False",
            self.dropped,
        )
        return "taken"

    def _set(self, id: str, *, is_there: bool) -> None:
        if is_there and self._pool.join(id):
            _log.info("portal %s takes events", id)
            self._watcher.portal_joined(id)
        elif not is_there and self._pool.leave(id):
            _log.info("portal %s takes no more events", id)
            self._watcher.portal_left(id)

    async def _subscribers(self) -> Subscribers | None:
        try:
            found = Subscribers.of(await self._ask(SUBSCRIBERS))
        except BackendRefused:
            return None
        if not found.numbers <= self._connections:
            self._appeared_at = asyncio.get_running_loop().time()
        self._connections = found.numbers
        return found

    async def _run(self, call: Call) -> None:
        await self._ask(call.command)

    async def _ask(self, command: Command, *, is_repeatable: bool = True) -> Any:
        [reply] = await self._pipeline.execute([command], is_repeatable=is_repeatable)
        return reply
