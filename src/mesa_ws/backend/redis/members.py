"""Ids that a node holds: in a table of the process, recorded in Redis."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ..base import Watcher
from ..outbox import Acknowledgement, Page, Read, Standing, Start
from ..redis_client.command import MAX_IDS, MAX_OUTBOXES, chunks
from ..redis_client.pipeline import Pipeline
from ..redis_wire.lease import LeaseKeeper
from .dispatch import warn_of_corruption
from .node_commands import (
    NodeCommands,
    OutboxReply,
    answers,
    came_online,
    newest_order,
    read_newest_order,
    read_standing,
    standing,
)

MemberEntry = tuple[int, int]
"""Number of sockets of an id here, and the version of that entry."""

MAX_OWED = 100_000
"""Acknowledgements kept while Redis cannot be reached; lost ones mean that messages are sent twice."""

ASKED = 1000
"""Ids of one question to Redis for ids with messages."""

RECORDED = 50
"""Ids of one call when all of them are recorded, which every node does after an outage."""

CONFIRMED = 5000
"""Ids that are confirmed at one heartbeat: ten milliseconds of the event loop."""

LONGEST_PAUSE = 0.25
"""Maximum seconds between two such calls."""

_log = logging.getLogger("mesa_ws.backend")


class MemberTable:
    """Table of the ids of this node, each with its sockets and a version.

    Each change of an id gets a higher version than all before. Redis ignores a command whose version is older
    than the one it recorded, so commands about an id may be repeated, and may overtake each other.

    The table also records which ids the server was told are online, and which of those Redis does not know of
    yet.

    Attributes:
        held: the entry of each id.
        announced: ids that the server was told are online.
        version: the newest version.
    """

    def __init__(self) -> None:
        self.held: dict[str, MemberEntry] = {}
        self.version = 0
        self._unconfirmed: set[str] = set()
        self.announced: set[str] = set()

    def __len__(self) -> int:
        return len(self.held)

    def put(self, id: str, sockets: int) -> MemberEntry:
        """Record that `id` has `sockets` connections here; return the new entry."""
        self.version += 1
        entry = self.held[id] = (sockets, self.version)
        return entry

    def drop(self, id: str) -> int:
        """Remove `id`; return the version of that change."""
        self.version += 1
        self.held.pop(id, None)
        self.announced.discard(id)
        self._unconfirmed.discard(id)
        return self.version

    def announce(self, id: str) -> bool:
        """Record that the server learns that `id` is online; return whether it did not know."""
        if id in self.announced:
            return False
        if id in self.held:
            self.announced.add(id)
            self._unconfirmed.add(id)
        return True

    def take_unconfirmed(self, most: int) -> list[str]:
        """Return ids that were announced and not returned before, so that Redis can be told, too."""
        ids = list(islice(self._unconfirmed, most))
        self._unconfirmed.difference_update(ids)
        return ids

    def forget_announced(self) -> None:
        """Forget confirmed announcements: other nodes may have reported these ids offline."""
        self.announced = set(self._unconfirmed)

    def entries(self, ids: Iterable[str]) -> dict[str, MemberEntry]:
        """Return the entries of those `ids` that are held here."""
        return {id: self.held[id] for id in ids if id in self.held}

    def pages(self, size: int, first: Iterable[str] = ()) -> Iterator[dict[str, MemberEntry]]:
        """Yield the entries in pages, each one current when it is yielded."""
        ids = iter(dict.fromkeys([*first, *self.held]))
        while some := list(islice(ids, size)):
            yield self.entries(some)

    def unknown_ids(self, ids: Iterable[str]) -> list[str]:
        """Return those `ids` that are not held here."""
        return [id for id in ids if id not in self.held]


class Members:
    """Records the ids of a node, and reads and acknowledges their messages; in one event loop.

    All calls about one id go over one connection, in order.

    Args:
        pipeline: the connection to Redis.
        keeper: keeper of the lease.
        commands: commands of the node.
        watcher: learns of ids that come online.
        on_doubt: called when posted commands failed, or found no lease: the node synchronizes.
        on_leaving: called when ids were released, whose grace may have begun.

    Attributes:
        table: the ids.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: LeaseKeeper,
        commands: NodeCommands,
        watcher: Watcher,
        on_doubt: Callable[[], None],
        on_leaving: Callable[[], None],
    ) -> None:
        self.table = MemberTable()
        self._pipeline = pipeline
        self._keeper = keeper
        self._commands = commands
        self._watcher = watcher
        self._on_doubt = on_doubt
        self._on_leaving = on_leaving
        self._owed: dict[str, tuple[Acknowledgement, int]] = {}  # those that Redis did not get

    def __len__(self) -> int:
        return len(self.table)

    async def attach(self, id: str, sockets: int, start: Start | None) -> Page | None:
        """Record connections of `id`, and read its messages from `start` on, unless that is None."""
        entry = self.table.put(id, sockets)
        try:
            if start is None:
                await self._record({id: entry})
                return None
            command = self._commands.attach_and_read(
                id, entry, start, is_announced=id in self.table.announced
            )
            # Orders are read last: so the page has nothing that was dispatched after a later one.
            commands = (command, *standing(self._commands.keys, id))
            reply, *known = await self._pipeline.execute(commands, is_repeatable=True)
            if reply == 0:  # the lease was lost
                reply, *known = await self._keeper.execute(commands)
            (answer,) = answers(reply)
            page = self._page(id, answer, read_standing(known))
            if answer.came_online:
                self._tell(id)
            return page
        except BaseException:
            self.correct(id)
            raise

    def detach(self, id: str) -> None:
        """Remove `id`, which has no connections here any more; tell Redis without waiting."""
        self.table.drop(id)
        self.correct(id)

    def correct(self, id: str) -> None:
        """Make Redis agree with the table about one id, without waiting."""
        entry = self.table.held.get(id)
        if entry is None:
            self.post_detach([id])
        else:
            self._post_record({id: entry})

    def post_detach(self, ids: Sequence[str]) -> None:
        """Tell Redis, without waiting, that `ids` are not here."""
        command = self._commands.detach(ids, self.table.version)
        self._pipeline.post([command], self._on_doubt, lambda _: self._on_leaving())

    async def synchronize(self) -> None:
        """Record every id of the table, and release those that Redis records for this node beyond it."""
        await self.record_all()
        cursor = -1
        while cursor != 0:
            (reply,) = await self._keeper.run(self._commands.scan(max(cursor, 0)))
            cursor = int(reply[0])
            for some in chunks([id.decode(errors="replace") for id in reply[1]], MAX_IDS):
                unknown_ids = self.table.unknown_ids(some)
                if unknown_ids:
                    await self._keeper.run(self._commands.detach(unknown_ids, self.table.version))

    async def record_all(self) -> None:
        """Record every id of the table, check the lease, and repeat lost acknowledgements.

        Ids with messages come first. Between two pages Redis has as much time for others as a page took.
        """
        await self._record({})
        first = [
            id for some in chunks(list(self.table.held), ASKED) for id in await self._with_messages(some)
        ]
        clock = asyncio.get_running_loop().time
        for page in self.table.pages(RECORDED, first):
            begin = clock()
            await self._record(page)
            await asyncio.sleep(min(clock() - begin, LONGEST_PAUSE))
        self._post_acknowledgements(list(self._owed.values()))

    def confirm(self) -> None:
        """Tell Redis some of the ids that were announced, so that it does not report them as new again."""
        for some in chunks(self.table.take_unconfirmed(CONFIRMED), MAX_IDS):
            self._post_record(self.table.entries(some))

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read the messages that follow positions."""
        commands = (*self._commands.read(reads), newest_order(self._commands.keys))
        *replies, known = await self._keeper.execute(commands)
        found = [answer for reply in replies for answer in answers(reply)]
        about = Standing(position=read_newest_order(known))
        return [self._page(each.id, answer, about) for each, answer in zip(reads, found, strict=True)]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Post acknowledgements; lost ones are repeated when Redis is back."""
        self._post_acknowledgements([(each, self._version(each.id)) for each in acknowledgements])

    def _version(self, id: str) -> int:
        entry = self.table.held.get(id)
        return entry[1] if entry else 0

    def _post_acknowledgements(self, versioned: Sequence[tuple[Acknowledgement, int]]) -> None:
        for some in chunks(versioned, MAX_OUTBOXES):
            for each, _ in some:
                self._owed.pop(each.id, None)
            commands = [call.command for call in self._commands.acknowledge(some)]
            self._pipeline.post(commands, partial(self._owe, some))

    def _owe(self, versioned: Iterable[tuple[Acknowledgement, int]]) -> None:
        """Keep them with the version of that time: their floors cover no connection that came later.

        They fail in the order in which they were posted, so the last one of an id is the newest.
        """
        for each, version in versioned:
            if each.id in self._owed or len(self._owed) < MAX_OWED:
                self._owed[each.id] = (each, version)

    async def _with_messages(self, ids: Sequence[str]) -> list[str]:
        (found,) = await self._keeper.run(self._commands.waiting(ids))
        return [ids[number - 1] for number in found]

    def _page(self, id: str, answer: OutboxReply, about: Standing) -> Page:
        if answer.is_corrupt:
            warn_of_corruption(self._commands.keys, [id])
        return answer.page._replace(standing=about)

    async def _record(self, held: Mapping[str, MemberEntry]) -> None:
        (reply,) = await self._keeper.execute([self._commands.attach(held, self.table.announced)])
        self._on_recorded(list(held), reply)

    def _post_record(self, held: Mapping[str, MemberEntry]) -> None:
        if held:
            command = self._commands.attach(held, self.table.announced)
            self._pipeline.post(
                [command], self._on_doubt, lambda replies: self._on_recorded(list(held), replies[0])
            )

    def _on_recorded(self, ids: Sequence[str], reply: Any) -> None:
        fresh = came_online(ids, reply)
        if fresh is None:  # without a lease nothing was recorded
            self._on_doubt()
            return
        for id in fresh:
            self._tell(id)

    def _tell(self, id: str) -> None:
        if not self.table.announce(id):
            return
        try:
            self._watcher.came_online(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server failed to handle that %r came online", id)
