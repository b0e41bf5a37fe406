"""Reads the lists of the ids that a node holds, and shrinks them by what was proven."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from ...concurrency.tasks import start
from ...envelope import Envelope
from ...errors import BackendError
from ...position import Position
from ...recipients import Recipients
from ..base import Receive
from ..outbox import Acknowledgement, Entry, Page, PageStatus, Read
from ..redis.link import Link
from ..redis.plan import chunks
from . import plan
from .dialect import warn_of_corruption
from .keys import Keys
from .stream import Stream
from .waiting import WaitingList, joined, passed

ATTEMPTS = 20
"""Times that a list is tried to be changed, while others change it too."""

_log = logging.getLogger("mesa_ws.backend")


class Lists:
    """The streams of the ids of one node; for its event loop only.

    Args:
        link: the connection to Redis.
        keys: names of the namespace.
        receive: takes messages that are found late.
        holds: whether the node holds an id.
    """

    def __init__(self, link: Link, keys: Keys, receive: Receive, holds: Callable[[str], bool]) -> None:
        self._link = link
        self._keys = keys
        self._receive = receive
        self._holds = holds
        self._streams: dict[str, Stream] = {}
        self._shrinker: asyncio.Task[None] | None = None
        self._due: dict[str, None] = {}

    async def took(self, id: str, raw: bytes) -> Page:
        """The page of a connection that logs in, from what its list holds."""
        found = await self._readable(id, raw)
        is_new = id not in self._streams
        stream = self._streams.setdefault(id, Stream())
        fresh = stream.merge(found.messages)
        if not is_new:
            self._offer(id, stream, fresh)
        return stream.page("fresh", stream.proven)

    def dropped(self, id: str) -> Page:
        """The page of a connection that wants nothing of what was stored, which is gone now."""
        stream = self._streams.setdefault(id, Stream())
        stream.merge(())
        return stream.page("fresh", stream.top)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """What follows positions.

        Raises:
            BackendError: Redis did not answer.
        """
        ids = list(dict.fromkeys(read.id for read in reads))
        await self._look(ids, offers=False)
        return [self._page(read) for read in reads]

    async def look(self, ids: Iterable[str]) -> None:
        """Look again whether something is kept for ids, and hand it over.

        Raises:
            BackendError: Redis did not answer.
        """
        await self._look([id for id in ids if self._holds(id)], offers=True)

    def acknowledge(self, acknowledgements: Iterable[Acknowledgement]) -> None:
        """Forget what was received, soon."""
        for id, position, _ in acknowledgements:
            stream = self._streams.get(id)
            if stream is not None and stream.epoch == position.epoch and stream.prove(position.sequence):
                self._due[id] = None
        self.go_on()

    def go_on(self) -> None:
        """Shrink lists that hold what is proven."""
        if self._due and self._shrinker is None:
            self._shrinker = start(self._shrink_all(), name="mesa1-lists")

    def forget(self, id: str) -> None:
        """The node holds an id no more; what is owed to its list stays known until it is done."""
        stream = self._streams.get(id)
        if stream is not None and not stream.is_owed:
            del self._streams[id]

    async def aclose(self) -> None:
        """Finish what is owed, within the time limits of the link."""
        if self._shrinker is not None:
            await asyncio.wait([self._shrinker])

    def _page(self, read: Read) -> Page:
        stream = self._streams.setdefault(read.id, Stream())
        is_known = read.position.epoch == stream.epoch and read.position.sequence <= stream.top
        status: PageStatus = "resumed" if is_known else "reset"
        return stream.page(status, read.position.sequence if is_known else stream.proven)

    async def _look(self, ids: Sequence[str], *, offers: bool) -> None:
        for some in chunks(ids, plan.MAX_IDS):
            [raws] = await self._link.execute([plan.kept(self._keys, some)])
            for id, raw in zip(some, raws, strict=True):
                found = await self._readable(id, raw)
                stream = self._streams.get(id)
                if stream is None and (not offers or not found.messages):
                    continue
                stream = self._streams.setdefault(id, Stream())
                fresh = stream.merge(found.messages)
                if offers:
                    self._offer(id, stream, fresh)

    async def _readable(self, id: str, raw: bytes | None) -> WaitingList:
        """Read a list; what cannot be read of it is set aside, so that the id can log in."""
        found = WaitingList.of(raw)
        if found.is_corrupt:
            call = plan.swap(self._keys, id, found.raw, joined(found.messages), sets_aside=True)
            [is_done] = await self._link.execute([call.command])
            warn_of_corruption(self._keys, [id] if is_done else [])
        return found

    def _offer(self, id: str, stream: Stream, entries: Sequence[Entry]) -> None:
        """Hand over what was found; a connection that is logging in has it on its page."""
        for entry in entries:
            who = Recipients(False, (id,), frozenset())
            at = Position(stream.epoch, entry.sequence)
            self._receive(Envelope(who, entry.body, "message", entry.message_id, positions=(at,)))

    async def _shrink_all(self) -> None:
        try:
            while self._due:
                id = next(iter(self._due))
                del self._due[id]
                stream = self._streams.get(id)
                if stream is None:
                    continue
                try:
                    await self._shrink(id, stream)
                except BackendError as error:
                    _log.debug("what %r has received is still stored: %s", id, error)
                    self._due[id] = None
                    return
                if not self._holds(id):
                    self.forget(id)
        finally:
            self._shrinker = None

    async def _shrink(self, id: str, stream: Stream) -> None:
        """Take what is proven out of a list, and nothing else, whoever writes to it meanwhile."""
        for _ in range(ATTEMPTS):
            owed, until = stream.owed, stream.proven
            [[raw]] = await self._link.execute([plan.kept(self._keys, [id])])
            there = await self._readable(id, raw)
            gone = passed(owed, there.messages)
            left = len(owed) - gone
            if not left:
                stream.settle(until)
                return
            call = plan.swap(self._keys, id, there.raw, there.without(left))
            [is_done] = await self._link.execute([call.command])
            if is_done:
                stream.settle(until)
                return
        self._due[id] = None
