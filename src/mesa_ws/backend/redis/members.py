"""Whom a node holds: in its table first, and made so in Redis."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from ..base import Watcher
from ..outbox import Acknowledgement, Page, Read, Start
from ..redis_client.command import MAX_IDS, chunks
from ..redis_client.pipeline import Pipeline
from .dispatch import warn_of_corruption
from .lease import LeaseKeeper
from .node_commands import NodeCommands, came_online
from .outbox_commands import OutboxReply, acknowledge, answers, enter, read, waiting

Held = tuple[int, int]
"""Sockets of an id here, and the version of that."""


class MemberTable:
    """Ids with their sockets and the version of that entry. Versions only grow.

    It also knows of which ids the server was told that they came online, and of which of those
    Redis does not know that yet.

    Attributes:
        told: ids that the server was told of.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Held] = {}
        self._version = 0
        self._unconfirmed: set[str] = set()
        self.told: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def version(self) -> int:
        """The newest version given out."""
        return self._version

    def put(self, id: str, sockets: int) -> Held:
        """Note that `id` has `sockets` connections here; returns the new entry."""
        self._version += 1
        entry = self._entries[id] = (sockets, self._version)
        return entry

    def get(self, id: str) -> Held | None:
        """The entry of `id`."""
        return self._entries.get(id)

    def drop(self, id: str) -> int:
        """Note that `id` is gone; returns the version of that."""
        self._version += 1
        self._entries.pop(id, None)
        self.told.discard(id)
        self._unconfirmed.discard(id)
        return self._version

    def tell(self, id: str) -> bool:
        """Note that the server is told that `id` is online; returns whether that is news."""
        if id in self.told:
            return False
        if id in self._entries:
            self.told.add(id)
            self._unconfirmed.add(id)
        return True

    def take_unconfirmed(self) -> list[str]:
        """The ids that the server was told of since the last call, so that Redis can be told too."""
        ids, self._unconfirmed = list(self._unconfirmed), set()
        return ids

    def untell(self) -> None:
        """Others may have told that ids of this node are offline; then they come online again."""
        self.told = set(self._unconfirmed)

    def entries(self, ids: Iterable[str]) -> dict[str, Held]:
        """The entries of those of `ids` that are held here."""
        return {id: self._entries[id] for id in ids if id in self._entries}

    @property
    def ids(self) -> list[str]:
        """All ids, as of now."""
        return list(self._entries)

    def pages(self, size: int, first: Iterable[str] = ()) -> Iterator[dict[str, Held]]:
        """The entries in pieces of at most `size`, each as it is when it is asked for.

        Args:
            size: how many are in one piece.
            first: ids that come before all others.
        """
        ids = iter(dict.fromkeys([*first, *self._entries]))
        while some := list(islice(ids, size)):
            yield self.entries(some)

    def strangers(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not held here."""
        return [id for id in ids if id not in self._entries]


MAX_OWED = 100_000
"""Acknowledgements that are kept for a Redis that cannot be reached; without them messages come twice."""

ASKED = 1000
"""Ids about which Redis is asked at once whether they have messages."""

RECORDED = 50
"""Ids that are recorded at once when all of them are: after an outage every node does so."""

LONGEST_PAUSE = 0.25
"""Seconds between two such calls, at most."""

_log = logging.getLogger("mesa_ws.backend")


class Members:
    """Declares ids, reads and acknowledges what waits for them; in one event loop.

    Everything about one id goes over one connection, in the order of the calls.

    Args:
        pipeline: the connection to Redis.
        keeper: who keeps the lease.
        commands: the node's calls.
        watcher: who is told of ids that come online.
        on_doubt: called when something that was posted was not done.
        on_leaving: called when ids were given up.

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
        self._owed: dict[str, tuple[Acknowledgement, int]] = {}

    async def attach(self, id: str, sockets: int, start: Start | None) -> Page | None:
        """Note connections of `id`, record them, and read what waits from `start` on."""
        entry = self.table.put(id, sockets)
        try:
            if start is None:
                await self._record({id: entry})
                return None
            return await self._log_in(id, entry, start)
        except BaseException:
            self.correct(id)
            raise

    def detach(self, id: str) -> None:
        """Note that `id` has no connections here any more, and tell Redis without waiting."""
        self.table.drop(id)
        self.correct(id)

    def correct(self, id: str) -> None:
        """Make Redis agree with the table about one id, without waiting."""
        entry = self.table.get(id)
        if entry is None:
            self.give_up([id])
        else:
            self._post_record({id: entry})

    def give_up(self, ids: Sequence[str]) -> None:
        """Tell Redis that `ids` are not here, without waiting."""
        command = self._commands.detach(ids, self.table.version).command
        self._pipeline.post([command], self._on_doubt, lambda _: self._on_leaving())

    async def record_all(self) -> None:
        """Record every id of the table, at least the lease; and repeat acknowledgements that got lost.

        Ids with messages come first. Between two pages Redis has as much time for others as a page took.
        """
        await self._record({})
        first = [id for some in chunks(self.table.ids, ASKED) for id in await self._with_messages(some)]
        clock = asyncio.get_running_loop().time
        for page in self.table.pages(RECORDED, first):
            begin = clock()
            await self._record(page)
            await asyncio.sleep(min(clock() - begin, LONGEST_PAUSE))
        self._post_acknowledgements(list(self._owed.values()))

    def confirm(self) -> None:
        """Let Redis know which ids the server was told of, so that it does not answer that again."""
        for some in chunks(self.table.take_unconfirmed(), MAX_IDS):
            self._post_record(self.table.entries(some))

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Read what follows positions."""
        replies = await self._keeper.execute(read(self._commands, reads))
        found = [answer for reply in replies for answer in _found(reply)]
        return [self._page(each.id, answer) for each, answer in zip(reads, found, strict=True)]

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Post what was received; what gets lost is repeated when Redis is back."""
        self._post_acknowledgements([(each, self._version(each.id)) for each in acknowledgements])

    def _version(self, id: str) -> int:
        entry = self.table.get(id)
        return entry[1] if entry else 0

    def _post_acknowledgements(self, versioned: Sequence[tuple[Acknowledgement, int]]) -> None:
        for some in chunks(versioned, MAX_IDS):
            for each, _ in some:
                self._owed.pop(each.id, None)
            commands = [call.command for call in acknowledge(self._commands, some)]
            self._pipeline.post(commands, partial(self._owe, some))

    def _owe(self, versioned: Iterable[tuple[Acknowledgement, int]]) -> None:
        """Remember them with the version of then: their floors know of no connection that came later.

        They fail in the order in which they were posted, so the last of an id is the newest.
        """
        for each, version in versioned:
            if each.id in self._owed or len(self._owed) < MAX_OWED:
                self._owed[each.id] = (each, version)

    async def _with_messages(self, ids: Sequence[str]) -> list[str]:
        (found,) = await self._keeper.run(waiting(self._commands.keys, ids))
        return [ids[number - 1] for number in found]

    async def _log_in(self, id: str, entry: Held, start: Start) -> Page:
        call = enter(self._commands, id, entry, start, is_told=id in self.table.told)
        (reply,) = await self._keeper.execute([call])
        (answer,) = _found(reply)
        if answer.came_online:
            self._tell(id)
        return self._page(id, answer)

    def _page(self, id: str, answer: OutboxReply) -> Page:
        if answer.is_corrupt:
            warn_of_corruption(self._commands.keys, [id])
        return answer.page

    async def _record(self, held: Mapping[str, Held]) -> None:
        (reply,) = await self._keeper.execute([self._commands.attach(held, self.table.told)])
        self._on_recorded(list(held), reply)

    def _post_record(self, held: Mapping[str, Held]) -> None:
        if held:
            command = self._commands.attach(held, self.table.told).command
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
        if not self.table.tell(id):
            return
        try:
            self._watcher.came_online(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server could not be told that %r came online", id)


def _found(reply: Any) -> list[OutboxReply]:
    return answers(reply) or []
