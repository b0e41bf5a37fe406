"""An open node of the 1.x wire: its lease, the ids that it holds, and the messages that it receives."""

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
from ..redis.backend import NoWatcher
from ..redis_client.address import Address
from ..redis_client.command import Call
from ..redis_client.pipeline import Pipelines
from ..redis_client.subscriber import Subscriber
from ..redis_wire.lease import GraceWatch
from ..redis_wire.runs import Runs
from ..redis_wire.timing import BEATS, MISSED
from .commands import MAX_IDS, Mesa1NodeCommands, Mesa1Pulse, warn_of_another_type
from .operations import ignore
from .outbox import WaitingLists
from .payloads import InvalidPayload, read_payload, read_reply
from .portal_dispatch import PortalDispatch

LATE = 1.0
"""Seconds between a login and a second look at its list. A dispatcher of 1.x that asked before
the login whether the id is online stores its message after the login."""

_log = logging.getLogger("mesa_ws.backend")


class Mesa1Node:
    """One open node.

    With every heartbeat it records all ids that it holds: a server of 1.x whose connection of an id ends
    removes the id from the shared set, and Redis may have lost its data.

    Args:
        address: address of Redis.
        pipelines: connections to Redis.
        commands: the node's calls.
        receive: called with each message to this node.
        watcher: learns that messages may be missing, and which ids and portals come and go.
        timeout: seconds for one call.
        has_portals: whether portals get the events of clients.
        spreads: whether portals take turns.

        Attributes:
        lists: stored messages of the ids that it holds.
        portals: the portals that get events.
        garbage: number of payloads that could not be read.
    """

    def __init__(
        self,
        address: Address,
        pipelines: Pipelines,
        commands: Mesa1NodeCommands,
        receive: Receive,
        watcher: Watcher | None,
        timeout: float,
        *,
        has_portals: bool = False,
        spreads: bool = True,
    ) -> None:
        self.pipelines = pipelines
        self.garbage = 0
        self._commands = commands
        self._pipeline = pipelines.main
        self._receive = receive
        self._watcher = watcher or NoWatcher()
        self._timeout = timeout
        self._tasks = Tasks()
        self._held: dict[str, int] = {}
        self._undetached: dict[str, None] = {}  # ids that have left, but not yet in Redis
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
        self._grace_watch = GraceWatch(self._pipeline, commands, self._watcher)
        self.lists = WaitingLists(self._pipeline, commands.keys, receive, self._held.__contains__)
        self.portals = PortalDispatch(self._pipeline, commands, self._watcher, spreads=spreads)
        self._has_portals = has_portals
        others: dict[str, Callable[[bytes], None]] = {commands.keys.channel(commands.node): self._on_own}
        others[commands.keys.database(address.database)] = ignore
        if has_portals:
            others[commands.keys.pool] = self.portals.hear
        channels = [commands.keys.messages]
        self._reader = Subscriber(address, channels, self._on_frame, self.doubt, timeout, others=others)

    @property
    def is_ready(self) -> bool:
        """Whether messages reach this node now."""
        return self._reader.is_subscribed and time.monotonic() < self._lease_ends and self._is_mended

    async def open(self) -> None:
        """Listen first: once the node has its lease, other processes rely on it."""
        await self._reader.open()
        await self._beat()
        if self._has_portals:
            await self.portals.look()
            self._tasks.start(self.portals.run, "portals")
        self._pipeline.on_reconnect = self.doubt
        self._tasks.start(self._beat_forever, "heart")
        self._tasks.start(self._look_late, "lists")
        self._tasks.start(self._grace_watch.run, "sweeper")

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        try:
            with suppress(TimeoutError, BackendError):
                async with asyncio.timeout(self._timeout):
                    await self._tasks.aclose(self._timeout)
                    await self.lists.aclose()
                    self._lease_ends = 0.0
                    await self._repeat(self._commands.reap(self._commands.node))
        finally:
            await self._reader.aclose()
            await self.pipelines.aclose()

    def doubt(self) -> None:
        """Resync at once: the node may have missed messages, or Redis may have lost data."""
        self._is_mended = False
        self._wake.set()
        self.portals.doubt()

    async def attach(self, id: str, sockets: int, start: Start | None) -> Page | None:
        """Record connections of `id`, and read its stored messages."""
        self._held[id] = sockets
        self._undetached.pop(id, None)
        if start is None:
            [(_, is_new, _)] = await self._record({id: sockets})
            if is_new:  # a server of 1.x had removed the id, and others may have stored messages for it
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
        """Note that `id` has no connections here any more, and remove it from Redis without waiting."""
        self._held.pop(id, None)
        self.lists.forget(id)
        self._undetached[id] = None
        self._post_detach([id])

    def connected(self, count: int) -> None:
        """Set the number of connections, and write it to Redis soon."""
        self._connections = count
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._post_count)

    def _look_soon(self, id: str) -> None:
        self._fresh[id] = None
        self._logins.set()

    def _post_count(self) -> None:
        self._is_counting = False
        self._pipeline.post([self._commands.recount(self._connections).command], self.doubt)

    def _post_detach(self, ids: Sequence[str]) -> None:
        def done(_: list[Any]) -> None:
            for id in ids:
                self._undetached.pop(id, None)
            self._grace_watch.plan()

        self._pipeline.post([self._commands.detach(ids).command], self.doubt, done)

    async def _record(self, held: Mapping[str, int], mode: str = "") -> list[Any]:
        """Record ids; take a new lease first if it was lost."""
        call = self._commands.attach(held, mode)
        replies = await self._run(call)
        if replies == 0:
            await self._beat()
            self.doubt()  # no later heartbeat would notice
            replies = await self._run(call)
        if replies == 0:
            raise BackendUnavailable("redis: this node lost its lease again at once")
        for id, (came_online, _, _) in zip(held, replies, strict=True):
            if came_online:
                self._tell(id)
        found: list[Any] = replies
        return found

    async def _run(self, call: Call) -> Any:
        [reply] = await self._pipeline.execute([call.command], is_repeatable=True)
        return reply

    async def _repeat(self, call: Call) -> None:
        """Run `call` until nothing is left to do."""
        while await self._run(call) == 1:
            pass

    async def _beat(self) -> Mesa1Pulse:
        start = time.monotonic()
        pulse = Mesa1Pulse(*await self._run(self._commands.beat(self._connections, self._runs.args)))
        self._lease_ends = start + self._commands.lease
        since = self._runs.ended(pulse.run)
        if since is not None:
            self._watcher.forked(since)
        self._warn_of_types(pulse)
        self._unheard += 1
        if self._unheard > MISSED:
            self._unheard = 0
            await self._reader.restart()
        return pulse

    def _warn_of_types(self, pulse: Mesa1Pulse) -> None:
        if pulse.has_cleared:
            warn_of_another_type(self._commands.keys)
        if pulse.strange:
            self._strange.warn(
                _log,
                "%r has another type than 1.x keeps there, so servers of 1.x cannot work; use another "
                "namespace if the key belongs to another application, or delete it",
                pulse.strange[0].decode(),
            )

    async def _beat_forever(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._commands.lease / BEATS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._look_after()
            except BackendError as error:
                if self._is_mended:
                    _log.warning("node %s: Redis does not answer: %s", self._commands.node, error)
                self._is_mended = False
                await asyncio.sleep(min(0.2, self._commands.lease / BEATS))
                self._wake.set()

    async def _look_after(self) -> None:
        """Renew the lease and all ids, and resync where messages may be missing."""
        is_doubtful = not self._is_mended
        pulse = await self._beat()
        if not pulse.had_lease:
            _log.warning(
                "node %s: its lease ran out, so others treated it as dead; it reads stored messages again",
                self._commands.node,
            )
            is_doubtful = True
        is_doubtful |= bool(pulse.was_passed_over)
        forgotten = await self._record_all()
        if self._undetached:
            self._post_detach(list(islice(self._undetached, MAX_IDS)))
        self.lists.go_on()
        if pulse.dead:
            _log.info("node %s: cleans up after nodes whose lease ran out", self._commands.node)
            await self._repeat(self._commands.reap())
        if pulse.gone:
            self._grace_watch.look()
        await self.lists.look(forgotten)
        if is_doubtful:
            await self._watcher.catch_up()
        self._is_mended = not self._wake.is_set()

    async def _record_all(self) -> list[str]:
        """Record every id; return those that were not in the set of 1.x, which may have stored messages."""
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
                _log.debug("node %s: looking again for messages failed: %s", self._commands.node, error)

    def _on_own(self, frame: bytes) -> None:
        """Handle a payload of the node's own channel: its own empty message, or a portal's reply."""
        if not frame:
            self._unheard = 0
        else:
            self._deliver(frame, read_reply, self._commands.keys.channel(self._commands.node))

    def _on_frame(self, frame: bytes) -> None:
        self._deliver(frame, read_payload, self._commands.keys.messages)

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
            _log.exception("the server failed to deliver a message")

    def _tell(self, id: str) -> None:
        try:
            self._watcher.came_online(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server failed to note that %r came online", id)
