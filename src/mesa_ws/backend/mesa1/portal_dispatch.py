"""What a server does about portals: knows them, hands them what clients do, and finds the dead.

An event is published once, for the portal whose turn it is, and whoever is not there misses it. So the
number of connections that heard it is looked at: if there are fewer than there are portals, or than
heard the one before, somebody may be dead. An event is published again only if it is certain that its
portal did not hear it: its connection is gone, as many others are there as have heard it, and none of
them has come since.
"""

import asyncio
import logging
import random
from collections.abc import Container
from contextlib import suppress
from typing import Any
from uuid import uuid4

from ...concurrency.retry import LimitedWarning
from ...errors import BackendError, BackendRefused, BackendUnavailable
from ..base import Watcher
from ..inbox import AppendResult, InboxEvent
from ..redis_client.command import Call, Command
from ..redis_client.pipeline import Pipeline
from .commands import Seat
from .payloads import InvalidPayload, event_payload, read_notice
from .portal_liveness import SUBSCRIBERS, Census, Subscribers, Verdict, Vitality, look, readmit, withdraw


class Pool:
    """Portals in the order in which they came, each once.

    Args:
        spreads: take turns, as 1.x does: the index advances before it is used, so the second is the
            first. If not, each time one of them by chance.
    """

    def __init__(self, *, spreads: bool) -> None:
        self.spreads = spreads
        self._ids: list[str] = []
        self._index = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def join(self, id: str) -> bool:
        """Add a portal; return whether that is news."""
        if id in self._ids:
            return False
        self._ids.append(id)
        return True

    def leave(self, id: str) -> bool:
        """Take a portal out; return whether it was there."""
        if id not in self._ids:
            return False
        self._ids.remove(id)
        return True

    def choose(self, avoid: Container[str] = ()) -> str | None:
        """The portal of the next event; one to be avoided only where there is no other."""
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
"""Seconds, unless a third of the lease is less, in which a portal may come back that was cut off."""

SILENCE = 1.0
"""Seconds for which an event that nobody hears waits, and its client with it; at most `PATIENCE`."""

PAUSE = 0.05
"""Seconds between attempts to reach anybody, and before a second look at one that joined."""

STALE = 0.5
"""Seconds after which a look says nothing of what was just published."""

_log = logging.getLogger("mesa_ws.backend")


class Portals:
    """The portals that one node knows; in one event loop.

    Args:
        link: the connection to Redis.
        seat: the node's names and times.
        watcher: who is told of portals that come and go; must not raise.
        spreads: whether they take turns.

    Attributes:
        dropped: events that nobody was there for.
        doubtful: events that may not have reached Redis.
        garbage: notices that were none.
    """

    def __init__(self, link: Pipeline, seat: Seat, watcher: Watcher, *, spreads: bool) -> None:
        self.dropped = 0
        self.doubtful = 0
        self.garbage = 0
        self._link = link
        self._seat = seat
        self._watcher = watcher
        self._patience = min(PATIENCE, seat.lease / 3)
        self._pool = Pool(spreads=spreads)
        self._vitality = Vitality(self._patience)
        self._changes: dict[str, float] = {}
        self._era = ""
        self._census: Census | None = None
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
        """The portals that take events."""
        return self._pool.ids

    def hear(self, payload: bytes) -> None:
        """Take a notice from `available_portals_pool`."""
        try:
            notice = read_notice(payload)
        except InvalidPayload as error:
            self.garbage += 1
            _log.warning("ignored %d bytes on %r: %s", len(payload), self._seat.keys.pool, error)
            return
        self._changes[notice.portal_id] = asyncio.get_running_loop().time()
        self._set(notice.portal_id, is_there=notice.is_ready)
        self._looked_at = 0.0  # what was seen before says nothing of these portals
        self._news.set()

    def doubt(self) -> None:
        """Something may have been missed: look soon."""
        self._news.set()

    async def run(self) -> None:
        """Look at once when a portal has joined or left, and now and then."""
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
                _log.debug("node %s: cannot look after portals: %s", self._seat.node, error)
                await asyncio.sleep(PAUSE)

    async def append(self, event: InboxEvent) -> AppendResult:
        """Tell a portal of an event, at most once; without portals it is dropped and counted.

        Raises:
            BackendError: Redis cannot be reached or refuses; it was not published.
        """
        avoid: set[str] = set()
        while True:
            portal = self._pool.choose(self._vitality.suspects | avoid)
            if portal is None or portal in avoid:
                return self._drop()
            expected = max(len(self._pool), self._audience)  # both may change while it is told
            told_at = asyncio.get_running_loop().time()
            heard = await self._publish(event, portal)
            if heard == 0:
                if await self._stays_silent():
                    return self._drop()
                continue
            self._silent_since = None
            if heard is not None and heard > self._audience:
                self._audience, self._looked_at = heard, 0.0  # somebody has come since
            if heard is None or heard >= expected or not await self._missed(portal, heard, told_at):
                return "taken"
            avoid.add(portal)

    async def look(self) -> None:
        """Read who takes events, and take out who does not live.

        Raises:
            BackendError: Redis did not answer.
        """
        asked = asyncio.get_running_loop().time()
        async with self._looking:
            if self._looked_at <= asked:
                await self._look()

    async def _look(self) -> None:
        now = self._looked_at = asyncio.get_running_loop().time()
        call = look(self._seat.keys, uuid4().hex, self._seat.expiry, self._seat.lease)
        census = self._census = Census.of(await self._ask(call.command))
        self._audience = census.listeners
        subscribers = await self._subscribers()
        await self._agree(census, now)
        verdict = self._vitality.observe(census, subscribers, self._pool.ids, now)
        await self._act(census, verdict, is_heard=self._vitality.others > 0)

    async def _agree(self, census: Census, now: float) -> None:
        """Let the pool be what stands in Redis, unless that has lost its data."""
        has_forgotten = self._era not in ("", census.era)
        self._era = census.era
        self._changes = {id: at for id, at in self._changes.items() if at > now - self._patience}
        if has_forgotten and len(self._pool):
            _log.warning("Redis has lost who takes events; %d portals are put back", len(self._pool))
            living = [id for id in self._pool.ids if id not in self._vitality.suspects] or self._pool.ids
            await self._ask(("SADD", self._seat.keys.pool, *living))
            return
        for id in census.members - set(self._changes):
            self._set(id, is_there=True)
        for id in set(self._pool.ids) - census.members - set(self._changes):
            self._set(id, is_there=False)

    async def _act(self, census: Census, verdict: Verdict, *, is_heard: bool) -> None:
        """Do what the verdict says; where a portal of 1.x may listen, put those back that seemed dead."""
        expiry = self._seat.expiry
        for why, ids in (("ours", verdict.ours), ("theirs", verdict.theirs)):
            for id in ids:
                _log.warning("portal %s is dead; it gets no more events", id)
                self._set(id, is_there=False)
                await self._run(withdraw(self._seat.keys, id, why, expiry))
        if verdict.unclear:
            self._unclear.warn(
                _log,
                "%d of the portals of 1.x are dead, and it cannot be told which, so their share is lost: "
                "restart them one after another, or take the dead ids out of %r",
                verdict.unclear,
                self._seat.keys.pool,
            )
        if census.gone and is_heard and not len(self._pool):
            _log.warning("somebody listens for events; %d portals of 1.x are put back", len(census.gone))
            await self._run(readmit(self._seat.keys, sorted(census.gone)))

    async def _publish(self, event: InboxEvent, portal: str) -> int | None:
        """Publish an event; returns how many heard it, or None if nobody knows."""
        payload = event_payload(event, portal)
        try:
            return int(await self._ask(("PUBLISH", self._seat.keys.portal, payload), is_repeatable=False))
        except BackendUnavailable as error:
            if not error.maybe_sent:
                raise
            self.doubtful += 1
            self._lost.warn(_log, "an event may not have reached portals, and is not sent twice (%s)", error)
            return None

    async def _missed(self, portal: str, heard: int, told_at: float) -> bool:
        """Whether a portal certainly did not hear what so many have heard.

        One that has left may have heard it, and so may one whose connection has ended since.
        """
        if not self._has_looked(heard):
            with suppress(BackendError):
                await self.look()
        is_as_then = self._has_looked(heard) and self._appeared_at < told_at
        return is_as_then and portal in self._vitality.suspects | self._vitality.unheard

    def _has_looked(self, heard: int) -> bool:
        """Whether a look of this moment has found so many listeners."""
        age = asyncio.get_running_loop().time() - self._looked_at
        return age < STALE and self._census is not None and self._census.listeners == heard

    async def _stays_silent(self) -> bool:
        """Nobody heard it: wait a moment for somebody who comes back; returns whether nobody did."""
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
            "no portal is there: %d events were dropped so far; start one, or say portals=False",
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
        [reply] = await self._link.execute([command], is_repeatable=is_repeatable)
        return reply
