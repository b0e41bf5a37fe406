"""Resynchronization of a node with Redis, whenever there is doubt.

There is doubt after a lost lease, a new connection (to a Redis that may have lost its last
seconds), a lost subscription, a gap between the frames of the channel, or a call that failed. First the
node records its ids again, so that messages reach it from then on; then the server reads the messages
that may have passed it by; only then is the node ready.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress

from ...errors import BackendError
from ..base import Watcher
from ..redis_client.command import MAX_IDS, chunks
from ..redis_wire.lease import LeaseKeeper
from ..redis_wire.timing import BEATS
from .members import Members
from .node_commands import NodeCommands

SPREAD_IDS = 10_000
"""Number of ids for which a node waits up to a second before it reads, since other nodes read as well."""

_log = logging.getLogger("mesa_ws.backend")


class Resync:
    """Task that makes Redis agree with the node again after every doubt.

    Args:
        keeper: keeper of the lease.
        commands: commands of the node.
        members: ids of the node.
        watcher: the server, which has to catch up.
    """

    def __init__(
        self, keeper: LeaseKeeper, commands: NodeCommands, members: Members, watcher: Watcher
    ) -> None:
        self._keeper = keeper
        self._commands = commands
        self._members = members
        self._watcher = watcher
        self._doubt = asyncio.Event()
        self._is_synchronized = True

    @property
    def is_synchronized(self) -> bool:
        """Whether no doubt is left."""
        return self._is_synchronized

    def doubt(self) -> None:
        """Synchronize soon: messages may have been missed, or Redis may have lost data."""
        self._is_synchronized = False
        self._doubt.set()

    async def run(self) -> None:
        """Synchronize after every doubt, and renew the keys of ids that stay long; never returns."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._commands.expiry / 4):
                    await self._doubt.wait()
            try:
                await self._synchronize()
            except BackendError as error:
                _log.debug(
                    "node %s: synchronizing with Redis failed, retrying: %s", self._commands.node, error
                )
                self.doubt()
                await asyncio.sleep(self._commands.lease / BEATS * random.uniform(0.5, 1))  # noqa: S311
            except Exception:
                self.doubt()
                raise

    async def _synchronize(self) -> None:
        is_doubtful = self._doubt.is_set()
        self._doubt.clear()
        await self._members.record_all()
        await self._forget_unknown_ids()
        if is_doubtful:
            spread = min(1.0, len(self._members.table) / SPREAD_IDS)
            await asyncio.sleep(random.uniform(0, spread))  # noqa: S311
            await self._watcher.catch_up()
        self._is_synchronized = not self._doubt.is_set()

    async def _forget_unknown_ids(self) -> None:
        """Release the ids that Redis records for this node and that it does not hold."""
        cursor = -1
        while cursor != 0:
            (reply,) = await self._keeper.run(self._commands.scan(max(cursor, 0)))
            cursor = int(reply[0])
            await self._forget([id.decode(errors="replace") for id in reply[1]])

    async def _forget(self, ids: Sequence[str]) -> None:
        table = self._members.table
        for some in chunks(ids, MAX_IDS):
            unknown_ids = table.unknown_ids(some)
            if unknown_ids:
                await self._keeper.run(self._commands.detach(unknown_ids, table.version))
