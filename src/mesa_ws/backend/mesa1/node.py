"""A node of the 1.x wire while it is open: its lease, whom it holds, and what comes in."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ...concurrency.retry import LimitedWarning
from ...concurrency.tasks import Tasks
from ...errors import BackendError, BackendUnavailable
from ...messages.envelope import Envelope
from ..base import Receive, Watcher
from ..outbox import Page, Start
from ..redis.aio import Pipelines
from ..redis.backend import MISSED, NoWatcher
from ..redis.lease import GraceWatch
from ..redis.runs import Runs
from ..redis_client.address import Address
from ..redis_client.command import Call
from ..redis_client.subscriber import Subscriber
from .commands import MAX_IDS, Pulse, Seat, warn_of_another_type
from .operations import ignore
from .outbox import Lists
from .payloads import InvalidPayload, read_answer, read_payload
from .portal_dispatch import Portals

BEATS = 3
"""Heartbeats in one lease: two may fail."""

LATE = 1.0
"""Seconds after a login when its list is looked at again. A dispatcher of 1.x that asked before
the login whether the id is online stores after it."""

_log = logging.getLogger("mesa_ws.backend")


class Resident:
    """One node while it is open.

    With every heartbeat it records all ids it holds: a server of 1.x whose connection of an id ends
    takes the id out of the set for everybody, and Redis may have forgotten.

    Args:
        address: where Redis is.
        links: connections to it.
        seat: the node's calls.
        receive: takes what comes in.
        watcher: who is told of doubt, and of who comes and goes.
        timeout: seconds for one call.
        has_portals: whether portals are told what clients do.
        spreads: whether they take turns.

    Attributes:
        lists: what is kept for its ids.
        portals: who is told what clients do.
        garbage: payloads that were none.
    """

    def __init__(
        self,
        address: Address,
        links: Pipelines,
        seat: Seat,
        receive: Receive,
        watcher: Watcher | None,
        timeout: float,
        *,
        has_portals: bool = False,
        spreads: bool = True,
    ) -> None:
        self.links = links
        self.garbage = 0
        self._seat = seat
        self._link = links.main
        self._receive = receive
        self._watcher = watcher or NoWatcher()
        self._timeout = timeout
        self._tasks = Tasks()
        self._held: dict[str, int] = {}
        self._owed: dict[str, None] = {}  # ids that Redis does not know to be gone
        self._connections = 0
        self._is_counting = False
        self._lease_ends = 0.0
        self._unheard = 0
        self._runs = Runs()
        self._strange = LimitedWarning()
        self._is_mended = True
        self._wake = asyncio.Event()
        self._fresh: dict[str, None] = {}
        self._logins = asyncio.Event()
        self._sweeper = GraceWatch(self._link, seat, self._watcher)
        self.lists = Lists(self._link, seat.keys, receive, self._held.__contains__)
        self.portals = Portals(self._link, seat, self._watcher, spreads=spreads)
        self._has_portals = has_portals
        others: dict[str, Callable[[bytes], None]] = {seat.keys.channel(seat.node): self._on_own}
        others[seat.keys.database(address.database)] = ignore
        if has_portals:
            others[seat.keys.pool] = self.portals.hear
        channels = [seat.keys.messages]
        self._reader = Subscriber(address, channels, self._on_frame, self.doubt, timeout, others=others)

    @property
    def is_ready(self) -> bool:
        """Whether messages reach this node now."""
        return self._reader.is_subscribed and time.monotonic() < self._lease_ends and self._is_mended

    async def open(self) -> None:
        """Listen first: from the lease on, others count on this node."""
        await self._reader.open()
        await self._beat()
        if self._has_portals:
            await self.portals.look()
            self._tasks.start(self.portals.run, "portals")
        self._link.on_reconnect = self.doubt
        self._tasks.start(self._beat_forever, "heart")
        self._tasks.start(self._look_late, "lists")
        self._tasks.start(self._sweeper.run, "sweeper")

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        try:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(self._timeout):
                    await self._tasks.aclose(self._timeout)
                    await self.lists.aclose()
                    self._lease_ends = 0.0
                    await self._repeat(self._seat.reap(self._seat.node))
        finally:
            await self._reader.aclose()
            await self.links.aclose()

    def doubt(self) -> None:
        """Something may have been missed, or forgotten by Redis: make it good, at once."""
        self._is_mended = False
        self._wake.set()
        self.portals.doubt()

    async def attach(self, id: str, sockets: int, start: Start | None) -> Page | None:
        """Note connections of `id`, record them, and read what is kept for it."""
        self._held[id] = sockets
        self._owed.pop(id, None)
        if start is None:
            [(_, is_new, _)] = await self._record({id: sockets})
            if is_new:  # a server of 1.x had taken it out, and others may have stored for it
                self._look_soon(id)
            return None
        drops = start.mode == "acknowledge"
        [(_, _, raw)] = await self._record({id: sockets}, "drop" if drops else "read")
        if drops:
            return self.lists.dropped(id)
        page = await self.lists.took(id, raw)
        self._look_soon(id)
        return page

    def detach(self, id: str) -> None:
        """Note that `id` has no connections here any more, and tell Redis without waiting."""
        self._held.pop(id, None)
        self.lists.forget(id)
        self._owed[id] = None
        self._post_detach([id])

    def connected(self, count: int) -> None:
        """Note how many connections there are, and tell Redis soon."""
        self._connections = count
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._post_count)

    def _look_soon(self, id: str) -> None:
        self._fresh[id] = None
        self._logins.set()

    def _post_count(self) -> None:
        self._is_counting = False
        self._link.post([self._seat.recount(self._connections).command], self.doubt)

    def _post_detach(self, ids: Sequence[str]) -> None:
        def done(_: list[Any]) -> None:
            for id in ids:
                self._owed.pop(id, None)
            self._sweeper.seen_off()

        self._link.post([self._seat.detach(ids).command], self.doubt, done)

    async def _record(self, held: Mapping[str, int], mode: str = "") -> list[Any]:
        """Record ids; takes a new lease first if it was lost."""
        call = self._seat.attach(held, mode)
        replies = await self._run(call)
        if replies == 0:
            await self._beat()
            self.doubt()  # no later heartbeat would find out
            replies = await self._run(call)
        if replies == 0:
            raise BackendUnavailable("redis: the lease of this node was lost again at once")
        for id, (came_online, _, _) in zip(held, replies, strict=True):
            if came_online:
                self._tell(id)
        found: list[Any] = replies
        return found

    async def _run(self, call: Call) -> Any:
        [reply] = await self._link.execute([call.command], is_repeatable=True)
        return reply

    async def _repeat(self, call: Call) -> None:
        """Run `call` until there is nothing more for it to do."""
        while await self._run(call) == 1:
            pass

    async def _beat(self) -> Pulse:
        start = time.monotonic()
        pulse = Pulse(*await self._run(self._seat.beat(self._connections, self._runs.args)))
        self._lease_ends = start + self._seat.lease
        since = self._runs.ended(pulse.run)
        if since is not None:
            self._watcher.forked(since)
        self._warn_of_types(pulse)
        self._unheard += 1
        if self._unheard > MISSED:
            self._unheard = 0
            await self._reader.restart()
        return pulse

    def _warn_of_types(self, pulse: Pulse) -> None:
        if pulse.has_cleared:
            warn_of_another_type(self._seat.keys)
        if pulse.strange:
            self._strange.warn(
                _log,
                "%r is not what 1.x keeps there, so servers of 1.x cannot work: is it of another namespace? "
                "Use another one, or delete it",
                pulse.strange[0].decode(),
            )

    async def _beat_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seat.lease / BEATS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look_after()
            except BackendError as error:
                if self._is_mended:
                    _log.warning("node %s: Redis does not answer: %s", self._seat.node, error)
                self._is_mended = False
                await asyncio.sleep(min(0.2, self._seat.lease / BEATS))
                self._wake.set()

    async def _look_after(self) -> None:
        """Renew everything, and make good what there is doubt about."""
        is_doubtful = not self._is_mended
        pulse = await self._beat()
        if not pulse.had_lease:
            _log.warning(
                "node %s: its lease ran out, others took it for dead; what was stored meanwhile is read",
                self._seat.node,
            )
            is_doubtful = True
        is_doubtful |= bool(pulse.was_passed_over)
        forgotten = await self._record_all()
        if self._owed:
            self._post_detach(list(islice(self._owed, MAX_IDS)))
        self.lists.go_on()
        if pulse.dead:
            _log.info("node %s: cleans up after nodes whose lease ran out", self._seat.node)
            await self._repeat(self._seat.reap())
        if pulse.gone:
            self._sweeper.look()
        await self.lists.look(forgotten)
        if is_doubtful:
            await self._watcher.catch_up()
        self._is_mended = not self._wake.is_set()

    async def _record_all(self) -> list[str]:
        """Record every id; return those that 1.x did not know of, for whom it may have stored."""
        forgotten = []
        ids = iter(list(self._held))
        while some := list(islice(ids, MAX_IDS)):
            held = {id: self._held[id] for id in some if id in self._held}
            if held:
                replies = await self._record(held)
                forgotten += [id for id, (_, is_new, _) in zip(held, replies, strict=True) if is_new]
        return forgotten

    async def _look_late(self) -> None:
        while True:
            await self._logins.wait()
            self._logins.clear()
            ids, self._fresh = list(self._fresh), {}
            await asyncio.sleep(LATE)
            try:
                await self.lists.look(ids)
            except BackendError as error:
                _log.debug("node %s: looking again for messages failed: %s", self._seat.node, error)

    def _on_own(self, frame: bytes) -> None:
        """Take what came in for this node alone: a sign that it hears, or what a portal answers."""
        if not frame:
            self._unheard = 0
        else:
            self._deliver(frame, read_answer, self._seat.keys.channel(self._seat.node))

    def _on_frame(self, frame: bytes) -> None:
        self._deliver(frame, read_payload, self._seat.keys.messages)

    def _deliver(self, frame: bytes, read: Callable[[bytes], Envelope | None], channel: str) -> None:
        try:
            envelope = read(frame)
        except InvalidPayload as error:
            self.garbage += 1
            _log.warning("ignored %d bytes on %r: %s", len(frame), channel, error)
            return
        try:
            if envelope is not None:
                self._receive(envelope)
        except Exception:  # noqa: BLE001  # whatever the server did, the next message counts
            _log.exception("a message could not be delivered here")

    def _tell(self, id: str) -> None:
        try:
            self._watcher.came_online(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server could not be told that %r came online", id)
