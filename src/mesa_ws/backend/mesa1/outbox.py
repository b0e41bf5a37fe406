"""Reads the lists of the ids that a node holds, and shrinks them by what was proven.

The JSON lists in which 1.x keeps messages, as values.

Other writers read a list, add to it and write all of it again, so the same message may come back in
other bytes: without spaces, with members sorted by number, with `1` for `1.0`. Messages are compared
by what they say.

What a node has read of the list of one id, numbered for its connections. Without any I/O.

Numbers belong to an epoch, which is new whenever a node begins to hold an id. The first messages of
a stream may be proven and still stand in the list, until Redis has agreed to forget them.
"""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ...concurrency.tasks import start
from ...errors import BackendError
from ...messages.envelope import Envelope
from ...messages.message import Op
from ...messages.receipt import Position
from ...messages.recipients import Recipients
from ..base import Receive
from ..outbox import Acknowledgement, Entry, Page, PageStatus, Read
from ..redis_client.command import chunks
from ..redis_client.pipeline import Pipeline
from . import commands
from .commands import warn_of_corruption
from .keys import Keys
from .payloads import Carried


class Waiting(NamedTuple):
    """One message of a list.

    Attributes:
        raw: as it stands there.
        frame: what clients get.
    """

    raw: bytes
    frame: bytes

    @classmethod
    def of(cls, raw: bytes) -> "Waiting | None":
        """Read a member of a list; None if it is no message.

        An event is none: 1.x stores `DISCONNECT_CLIENT` for those who are away, and nobody who logs in
        later is meant by it.
        """
        try:
            carried = _MESSAGE.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return None
        is_message = carried.is_sayable and carried.op != Op.EVENT
        return cls(raw, carried.frame) if is_message else None

    def says_what(self, other: "Waiting") -> bool:
        """Whether another one says the same, whatever its bytes."""
        return self.raw == other.raw or _sense(self.raw) == _sense(other.raw)


class WaitingList(NamedTuple):
    """What is kept for one id.

    Attributes:
        raw: as it was read; empty for nothing.
        messages: those that can be read, in order.
        is_corrupt: whether there was something else, too.
    """

    raw: bytes
    messages: Sequence[Waiting]
    is_corrupt: bool

    @classmethod
    def of(cls, raw: bytes | None) -> "WaitingList":
        """Read a list."""
        if not raw:
            return cls(b"", (), False)
        members = _members(raw)
        if members is None:
            return cls(raw, (), True)
        found = [Waiting.of(member) for member in members]
        messages = [each for each in found if each is not None]
        return cls(raw, messages, len(messages) < len(found))

    def without(self, count: int) -> bytes:
        """The list without its first messages; empty if nothing is left."""
        return joined(self.messages[count:])


def joined(messages: Sequence[Waiting]) -> bytes:
    """The JSON list of messages; empty for none."""
    return b"[" + b",".join(each.raw for each in messages) + b"]" if messages else b""


def passed(known: Sequence[Waiting], there: Sequence[Waiting]) -> int:
    """How many of the first messages that are known are not in the list any more.

    The others are its beginning. All of them are gone if the list begins with something else.
    """
    for gone in range(len(known)):
        rest = known[gone:]
        if len(rest) <= len(there) and all(a.says_what(b) for a, b in zip(rest, there, strict=False)):
            return gone
    return len(known)


def _members(raw: bytes) -> list[bytes] | None:
    """The members of a list, each as JSON; None if it is no list.

    JavaScript writes half of a surrogate pair where a text was cut within one character. It spoils the
    member that it is in, and not the others; so does what is no UTF-8.
    """
    try:
        return [bytes(member) for member in _MEMBERS.decode(raw.decode())]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        found = json.loads(raw.decode(errors="surrogateescape"))
        if not isinstance(found, list):
            return None
        return [json.dumps(each, separators=(",", ":")).encode() for each in found]
    except (ValueError, RecursionError):
        return None


def _sense(raw: bytes) -> bytes:
    """What a message says; of one that is nested too deeply, or has numbers too great, its bytes."""
    try:
        return msgspec.json.encode(_plain(_ANY.decode(raw)), order="deterministic")
    except (msgspec.MsgspecError, RecursionError):
        return raw


def _plain(value: Any) -> Any:
    """A value as JavaScript reads it: there is one kind of number."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return float(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value


_MEMBERS = msgspec.json.Decoder(list[msgspec.Raw])
_MESSAGE = msgspec.json.Decoder(Carried)
_ANY = msgspec.json.Decoder()


class Stream:
    """Messages of one id, in the order of its list.

    Attributes:
        epoch: random, so that no position of another stream fits.
        proven: the sequence up to which somebody has proven to have them.
    """

    def __init__(self) -> None:
        self.epoch = os.urandom(8).hex()
        self.proven = 0
        self._gone = 0
        self._messages: list[Waiting] = []

    @property
    def top(self) -> int:
        """The sequence of the last message."""
        return self._gone + len(self._messages)

    @property
    def is_owed(self) -> bool:
        """Whether the list still holds what is proven."""
        return self._gone < self.proven

    @property
    def owed(self) -> Sequence[Waiting]:
        """What is proven and may still be in the list."""
        return self._messages[: self.proven - self._gone]

    def merge(self, there: Sequence[Waiting]) -> list[Entry]:
        """Take what the list holds now; return the messages that are new."""
        gone = passed(self._messages, there)
        self._gone += gone
        del self._messages[:gone]
        self.proven = max(self.proven, self._gone)
        before = self.top
        self._messages.extend(there[len(self._messages) :])
        return self._entries(before)

    def prove(self, sequence: int) -> bool:
        """Note that somebody has the messages up to `sequence`; return whether that is news."""
        if not self.proven < sequence <= self.top:
            return False
        self.proven = sequence
        return True

    def settle(self, sequence: int) -> None:
        """The list holds the messages up to `sequence` no more."""
        count = max(0, sequence - self._gone)
        self._gone += count
        del self._messages[:count]
        self.proven = max(self.proven, self._gone)

    def page(self, status: PageStatus, after: int) -> Page:
        """Everything after a sequence; what is proven is left out."""
        start = min(max(after, self.proven), self.top)
        return Page(status, self.epoch, start, self.top, 0, tuple(self._entries(start)))

    def _entries(self, after: int) -> list[Entry]:
        fresh = self._messages[after - self._gone :]
        return [Entry(number, "", each.frame) for number, each in enumerate(fresh, after + 1)]


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

    def __init__(self, link: Pipeline, keys: Keys, receive: Receive, holds: Callable[[str], bool]) -> None:
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
        for some in chunks(ids, commands.MAX_IDS):
            [raws] = await self._link.execute([commands.kept(self._keys, some)])
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
            call = commands.swap(self._keys, id, found.raw, joined(found.messages), sets_aside=True)
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
            [[raw]] = await self._link.execute([commands.kept(self._keys, [id])])
            there = await self._readable(id, raw)
            gone = passed(owed, there.messages)
            left = len(owed) - gone
            if not left:
                stream.settle(until)
                return
            call = commands.swap(self._keys, id, there.raw, there.without(left))
            [is_done] = await self._link.execute([call.command])
            if is_done:
                stream.settle(until)
                return
        self._due[id] = None
