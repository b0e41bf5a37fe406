"""Move the stored messages of 1.x into outboxes, once a cluster speaks the native wire."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BackendRefused, InvalidRecipients
from ..messages.envelope import Retention, new_message_id
from ..messages.recipients import check_id
from ..settings import Sync
from .base import Membership, Receive, Watcher
from .mesa1 import commands
from .mesa1.keys import Mesa1Keys
from .mesa1.outbox import WaitingList
from .outbox import Page, Start
from .redis.backend import RedisBackend, RedisNode
from .redis.keys import Keys
from .redis.scripts import IMPORT
from .redis_client.command import Call, chunks, ms, named

LATE = 60.0
"""Seconds in which a late writer of 1.x may put moved messages back without a second delivery."""

PAGE = 10
"""Approximate number of lists that one scan finds, and that are moved at the same time."""

BIG = 64 * 1024
"""Bytes of a list that is moved alone: reading it takes so long that calls for others would time out."""

ATTEMPTS = 20
"""Attempts to move a list while other processes add to it."""

_log = logging.getLogger("mesa_ws.backend")


class Legacy(NamedTuple):
    """Messages that 1.x keeps for one id.

    Attributes:
        key: the hash of 1.x.
        id: the recipient, which is the field of the hash.
        value: the value that was read from it.
        messages: message id and encoded frame of each message of `value`, in order.
    """

    key: str
    id: str
    value: bytes
    messages: Sequence[tuple[str, bytes]]

    def move(self, keys: Keys, retention: Retention, window: float) -> Call:
        """Move the messages into the outbox.

        Args:
            keys: names of the namespace.
            retention: how the messages are kept from now on.
            window: seconds for which a late writer of 1.x may put back the moved messages.
        """
        # 1.x has no limits; a script must not take long.
        over = max(0, len(self.messages) - retention.max_messages)
        args = named(
            id=self.id,
            late=ms(window),
            max_messages=retention.max_messages,
            max_bytes=retention.max_bytes,
            ttl=ms(retention.ttl),
            over=over,
        )
        messages = (part for message in self.messages[over:] for part in message)
        own = (self.key, keys.position(self.id), keys.outbox(self.id))
        return Call(IMPORT, own, (args, self.value, *messages))


class ImportingBackend(RedisBackend):
    """`RedisBackend` that moves the lists of 1.x into outboxes: all when it opens, late ones at logins.

    Moved messages come before those that are stored later, each once. Unreadable members are set aside.

    Args:
        address: as in `RedisBackend`.
        namespace: of both clusters, the old one and this one.
    """

    def __init__(self, address: object, *, namespace: str | None = None) -> None:
        super().__init__(address, namespace=namespace)
        self._old = Mesa1Keys(namespace)
        self._limits = Retention.of(Sync(enabled=True))

    def _make_node(self, receive: Receive, watcher: Watcher | None, membership: Membership) -> RedisNode:
        self._limits = membership.retention or self._limits
        return super()._make_node(receive, watcher, membership)

    async def _enter(self, node: RedisNode) -> None:
        """Join the cluster, and move all lists."""
        await super()._enter(node)
        self._pipeline = node.pipelines.main
        await self._move_all()

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        """Declare connections, and read the outbox with the messages of 1.x; see `Backend.attach`."""
        if start is not None:
            self._opened()
            await self._try_to_move(id)
        return await super().attach(id, sockets, start)

    async def _move_all(self) -> None:
        cursor, count = b"0", 0
        while True:
            look = ("HSCAN", self._old.undelivered, cursor, "COUNT", PAGE)
            try:
                [[cursor, found]] = await self._pipeline.execute([look], is_repeatable=True)
            except BackendRefused as error:
                _log.warning("the messages that 1.x stored were not moved: %s", error)
                return
            sizes = {field.decode(errors="replace"): len(value) for field, value in chunks(found, 2)}
            del found  # each list is read again when it is moved
            await asyncio.gather(*(self._try_to_move(id) for id, size in sizes.items() if size <= BIG))
            for id, size in sizes.items():
                if size > BIG:
                    await self._try_to_move(id)
            count += len(sizes)
            if cursor == b"0":
                break
        if count:
            _log.info("moved the messages that 1.x stored for %d ids", count)

    async def _try_to_move(self, id: str) -> None:
        try:
            await self._move(check_id(id))
        except (BackendRefused, InvalidRecipients) as error:
            _log.warning("the messages that 1.x stored for %r were not moved: %s", id, error)

    async def _move(self, id: str) -> None:
        for _ in range(ATTEMPTS):
            [[raw]] = await self._pipeline.execute([commands.kept(self._old, [id])], is_repeatable=True)
            if raw is None:
                return
            found = WaitingList.of(raw)
            if found.is_corrupt or not raw:
                aside = self._old.set_aside(id)
                await self._pipeline.execute(
                    [("RPUSH", aside, raw), ("PEXPIRE", aside, round(commands.ASIDE * 1000))]
                )
                _log.warning("the list of 1.x for %r was corrupt; it was set aside under %r", id, aside)
            messages = [(new_message_id(), each.frame) for each in found.messages]
            legacy = Legacy(self._old.undelivered, id, raw, messages)
            assert self._limits is not None  # noqa: S101 - set in __init__ and open
            call = legacy.move(self._wire.keys, self._limits, LATE)
            [reply] = await self._pipeline.execute([call.command], is_repeatable=True)
            if reply[0] != b"changed":
                return
