"""Ids that a node holds, and the lists in which 1.x stores messages for them."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from ...errors import BackendError
from ..base import Receive, Watcher
from ..outbox import Page, Start
from ..redis_client.command import MAX_IDS
from ..redis_client.pipeline import Pipeline
from ..redis_wire.lease import LeaseKeeper
from .commands import Mesa1NodeCommands
from .outbox import WaitingLists

LATE = 1.0
"""Seconds between a login and a second look at its list. A dispatcher of 1.x that asked before
the login whether the id is online stores its message after the login."""

_log = logging.getLogger("mesa_ws.backend")


class Mesa1Members(WaitingLists):
    """Records the ids of a node, and reads and shrinks their lists; in one event loop.

    Args:
        pipeline: the connection to Redis.
        keeper: keeper of the lease.
        commands: commands of the node.
        receive: called with messages that are found late.
        watcher: learns of ids that come online.
        on_doubt: called when posted commands failed.
        on_leaving: called when ids were released.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: LeaseKeeper,
        commands: Mesa1NodeCommands,
        receive: Receive,
        watcher: Watcher,
        on_doubt: Callable[[], None],
        on_leaving: Callable[[], None],
    ) -> None:
        self._held: dict[str, int] = {}
        super().__init__(pipeline, commands.keys, receive, self._held.__contains__)
        self._keeper = keeper
        self._commands = commands
        self._watcher = watcher
        self._on_doubt = on_doubt
        self._on_leaving = on_leaving
        self._undetached: dict[str, None] = {}  # ids that have left, but not yet in Redis
        self._fresh: dict[str, None] = {}
        self._logins = asyncio.Event()

    def __len__(self) -> int:
        return len(self._held)

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
            return self.dropped(id)
        page = await self.took(id, raw)
        self._look_soon(id)
        return page

    def detach(self, id: str) -> None:
        """Note that `id` has no connections here any more, and remove it from Redis without waiting."""
        self._held.pop(id, None)
        self.forget(id)
        self._undetached[id] = None
        self._post_detach([id])

    async def synchronize(self) -> None:
        """Record every id, and look for messages of those that were not in the set of 1.x.

        A server of 1.x whose connection of an id ends removes the id from the set, and others store
        messages for it from then on.
        """
        forgotten = []
        ids = iter(list(self._held))
        while some := list(islice(ids, MAX_IDS)):
            held = {id: self._held[id] for id in some if id in self._held}
            if held:
                replies = await self._record(held)
                forgotten += [id for id, (_, is_new, _) in zip(held, replies, strict=True) if is_new]
        if self._undetached:
            self._post_detach(list(islice(self._undetached, MAX_IDS)))
        self.go_on()
        await self.look(forgotten)

    async def look_late(self) -> None:
        """Look at the lists of ids again some time after they logged in; never returns."""
        while True:
            await self._logins.wait()
            self._logins.clear()
            ids, self._fresh = list(self._fresh), {}
            await asyncio.sleep(LATE)
            try:
                await self.look(ids)
            except BackendError as error:
                _log.debug("node %s: looking again for messages failed: %s", self._commands.node, error)

    def _look_soon(self, id: str) -> None:
        self._fresh[id] = None
        self._logins.set()

    def _post_detach(self, ids: Sequence[str]) -> None:
        def done(_: list[Any]) -> None:
            for id in ids:
                self._undetached.pop(id, None)
            self._on_leaving()

        self._pipeline.post([self._commands.detach(ids).command], self._on_doubt, done)

    async def _record(self, held: Mapping[str, int], mode: str = "") -> list[Any]:
        [replies] = await self._keeper.execute([self._commands.attach(held, mode)])
        for id, (came_online, _, _) in zip(held, replies, strict=True):
            if came_online:
                self._tell(id)
        found: list[Any] = replies
        return found

    def _tell(self, id: str) -> None:
        try:
            self._watcher.came_online(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server failed to note that %r came online", id)
