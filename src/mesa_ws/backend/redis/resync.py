"""Makes Redis agree with what a node holds, whenever there is doubt, and has the server catch up.

There is doubt after a lost lease, a new connection (to a Redis that may have lost its last
seconds), a subscription that was away, a gap between the messages that came in, or a call that
failed. First the ids are recorded again, so that messages come in from then on; then the server
reads what may have passed it by; only then is the node ready.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from ...errors import BackendError
from ..base import Watcher
from ..redis_client.command import MAX_IDS, chunks
from .lease import BEATS, LeaseKeeper
from .members import Members
from .node_commands import NodeCommands

CROWD = 10_000
"""Ids of one node for which it waits up to a second before it reads, since others do so as well."""

_log = logging.getLogger("mesa_ws.backend")


class Resync:
    """Doubts and mends, as long as `run` runs.

    Args:
        keeper: who keeps the lease.
        commands: the node's calls.
        members: whom the node holds.
        watcher: who has to catch up.
    """

    def __init__(
        self, keeper: LeaseKeeper, commands: NodeCommands, members: Members, watcher: Watcher
    ) -> None:
        self._keeper = keeper
        self._commands = commands
        self._members = members
        self._watcher = watcher
        self._doubt = asyncio.Event()
        self._is_mended = True

    @property
    def is_mended(self) -> bool:
        """Whether there is no doubt left."""
        return self._is_mended

    def doubt(self) -> None:
        """Something may have been missed or forgotten: make it good, soon."""
        self._is_mended = False
        self._doubt.set()

    async def run(self) -> None:
        """Mend whenever there is doubt, and renew what Redis keeps for ids that stay long; never ends."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._commands.expiry / 4):
                    await self._doubt.wait()
            try:
                await self._mend()
            except BackendError as error:
                _log.debug("node %s: repair failed, once more: %s", self._commands.node, error)
                self.doubt()
                await asyncio.sleep(self._commands.lease / BEATS * random.uniform(0.5, 1))  # noqa: S311
            except Exception:
                self.doubt()
                raise

    async def _mend(self) -> None:
        is_doubtful = self._doubt.is_set()
        self._doubt.clear()
        await self._members.record_all()
        await self._forget_strangers()
        if is_doubtful:
            crowd = min(1.0, len(self._members.table) / CROWD)
            await asyncio.sleep(random.uniform(0, crowd))  # noqa: S311
            await self._watcher.catch_up()
        self._is_mended = not self._doubt.is_set()

    async def _forget_strangers(self) -> None:
        """Give up what Redis has for this node and the node does not hold."""
        cursor = -1
        while cursor != 0:
            (reply,) = await self._keeper.run(self._commands.scan(max(cursor, 0)))
            cursor = int(reply[0])
            await self._forget([id.decode(errors="replace") for id in reply[1]])

    async def _forget(self, ids: Sequence[str]) -> None:
        table = self._members.table
        for some in chunks(ids, MAX_IDS):
            strangers = table.strangers(some)
            if strangers:
                await self._keeper.run(self._commands.detach(strangers, table.version))
