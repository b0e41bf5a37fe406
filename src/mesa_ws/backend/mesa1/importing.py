"""Moving what 1.x left behind into outboxes, once a cluster speaks the native wire."""

import asyncio
import logging

from ...errors import BackendRefused, InvalidRecipients
from ...messages.envelope import Retention, new_message_id
from ...messages.recipients import check_id
from ...settings import Durability, Sync
from ..base import Receive, Watcher
from ..outbox import Page, Start
from ..redis.backend import RedisBackend
from ..redis.outbox_commands import Legacy
from ..redis_client.command import chunks
from . import commands
from .keys import Keys
from .outbox import WaitingList

LATE = 60.0
"""Seconds for which a late writer of 1.x may put back what was moved, without it counting twice."""

PAGE = 10
"""Lists, about, that are looked for at once, and moved at the same time."""

BIG = 64 * 1024
"""Bytes of a list that is moved alone: reading it takes so long that calls for others would be given up."""

ATTEMPTS = 20
"""Times that a list is tried to be moved, while others add to it."""

_log = logging.getLogger("mesa_ws.backend")


class ImportingBackend(RedisBackend):
    """`RedisBackend` that moves the lists of 1.x into outboxes: all when it opens, late ones at logins.

    The messages come before those that are stored later, each once. What cannot be read is set aside.

    Args:
        address: as in `RedisBackend`.
        namespace: of both, the old cluster and this one.
    """

    def __init__(self, address: object, *, namespace: str | None = None) -> None:
        super().__init__(address, namespace=namespace)
        self._old = Keys(namespace)
        self._limits = Retention.of(Sync(enabled=True))

    async def open(
        self,
        receive: Receive,
        watcher: Watcher | None = None,
        *,
        retention: Retention | None = None,
        grace: float = 5.0,
        window: float = 120.0,
        allow_eviction: bool = False,
        portals: bool = False,
        durability: Durability = "memory",
    ) -> None:
        """Take the seat, and move all lists; see `Backend.open`. `retention` limits what is moved."""
        self._limits = retention or self._limits
        await super().open(
            receive,
            watcher,
            retention=retention,
            grace=grace,
            window=window,
            allow_eviction=allow_eviction,
            portals=portals,
            durability=durability,
        )
        try:
            await self._move_all()
        except BaseException:
            await self.aclose()
            raise

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare connections, and read the outbox with what 1.x kept; see `Presence.attach`."""
        if start is not None:
            await self._try_to_move(id)
        return await super().attach(id, sockets, start)

    async def _move_all(self) -> None:
        link, cursor, count = self._opened().pipelines.main, b"0", 0
        while True:
            look = ("HSCAN", self._old.undelivered, cursor, "COUNT", PAGE)
            try:
                [[cursor, found]] = await link.execute([look], is_repeatable=True)
            except BackendRefused as error:
                _log.warning("what 1.x kept stays where it is: %s", error)
                return
            sizes = {field.decode(errors="replace"): len(value) for field, value in chunks(found, 2)}
            del found  # each is read again when it is moved
            await asyncio.gather(*(self._try_to_move(id) for id, size in sizes.items() if size <= BIG))
            for id, size in sizes.items():
                if size > BIG:
                    await self._try_to_move(id)
            count += len(sizes)
            if cursor == b"0":
                break
        if count:
            _log.info("what 1.x kept for %d ids was moved", count)

    async def _try_to_move(self, id: str) -> None:
        try:
            await self._move(check_id(id))
        except (BackendRefused, InvalidRecipients) as error:
            _log.warning("what 1.x kept for %r stays where it is: %s", id, error)

    async def _move(self, id: str) -> None:
        link = self._opened().pipelines.main
        for _ in range(ATTEMPTS):
            [[raw]] = await link.execute([commands.kept(self._old, [id])], is_repeatable=True)
            if raw is None:
                return
            found = WaitingList.of(raw)
            if found.is_corrupt or not raw:
                aside = self._old.set_aside(id)
                await link.execute([("RPUSH", aside, raw), ("PEXPIRE", aside, round(commands.ASIDE * 1000))])
                _log.warning("what 1.x kept for %r was corrupt; it was set aside under %r", id, aside)
            messages = [(new_message_id(), each.frame) for each in found.messages]
            legacy = Legacy(self._old.undelivered, id, raw, messages)
            assert self._limits is not None  # noqa: S101 - storing was asked for above
            call = legacy.move(self._keys, self._limits, LATE)
            [reply] = await link.execute([call.command], is_repeatable=True)
            if reply[0] != b"changed":
                return
