"""The JSON lists in which 1.x stores messages, read and shrunk by a node for the ids that it holds.

Other writers read a list, append to it and write the whole list again, so the same message may come back in
other bytes: without spaces, with members sorted by number, with `1` for `1.0`. Messages are compared
by their meaning.

A node numbers the messages of a list for the connections of its id. Numbers belong to an epoch, which is new
whenever a node begins to hold an id. The first messages may be acknowledged and still be in the list, until
Redis has removed them.
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
from ..redis_client.command import MAX_IDS, chunks
from ..redis_client.pipeline import Pipeline
from . import commands
from .commands import warn_of_corruption
from .keys import Mesa1Keys
from .payloads import WireMessage


class ListedMessage(NamedTuple):
    """One message of a list.

    Attributes:
        raw: its bytes in the list.
        frame: the frame for clients.
    """

    raw: bytes
    frame: bytes

    @classmethod
    def of(cls, raw: bytes) -> "ListedMessage | None":
        """Read a member of a list; None if it is no message.

        An event is no message: 1.x stores `DISCONNECT_CLIENT` for ids that are away, but it is not meant
        for a client that logs in later.
        """
        try:
            carried = _MESSAGE.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return None
        is_message = carried.is_sayable and carried.op != Op.EVENT
        return cls(raw, carried.frame) if is_message else None

    def says_what(self, other: "ListedMessage") -> bool:
        """Return whether another message means the same, whatever its bytes."""
        return self.raw == other.raw or _sense(self.raw) == _sense(other.raw)


class WaitingList(NamedTuple):
    """The list of one id.

    Attributes:
        raw: its bytes; empty if there is none.
        messages: the readable messages, in order.
        is_corrupt: whether the list held anything else, too.
    """

    raw: bytes
    messages: Sequence[ListedMessage]
    is_corrupt: bool

    @classmethod
    def of(cls, raw: bytes | None) -> "WaitingList":
        """Read a list."""
        if not raw:
            return cls(b"", (), False)
        members = _members(raw)
        if members is None:
            return cls(raw, (), True)
        found = [ListedMessage.of(member) for member in members]
        messages = [each for each in found if each is not None]
        return cls(raw, messages, len(messages) < len(found))

    def without(self, count: int) -> bytes:
        """Return the list without its first messages; empty if no message is left."""
        return joined(self.messages[count:])


def joined(messages: Sequence[ListedMessage]) -> bytes:
    """Return the JSON list of messages; empty for none."""
    return b"[" + b",".join(each.raw for each in messages) + b"]" if messages else b""


def passed(known: Sequence[ListedMessage], there: Sequence[ListedMessage]) -> int:
    """Return how many of the first known messages are not in the list any more.

    The others are its beginning. All of them are gone if the list begins with another message.
    """
    for gone in range(len(known)):
        rest = known[gone:]
        if len(rest) <= len(there) and all(a.says_what(b) for a, b in zip(rest, there, strict=False)):
            return gone
    return len(known)


def _members(raw: bytes) -> list[bytes] | None:
    """Return the members of a list, each as JSON; None if it is no list.

    JavaScript writes half of a surrogate pair where a text was cut within a character. That spoils its own
    member, and not the others; so do bytes that are no UTF-8.
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
    """Return the meaning of a message; its bytes if it is nested too deeply, or has too large numbers."""
    try:
        return msgspec.json.encode(_plain(_ANY.decode(raw)), order="deterministic")
    except (msgspec.MsgspecError, RecursionError):
        return raw


def _plain(value: Any) -> Any:
    """Return a value as JavaScript reads it, which has one kind of number."""
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
_MESSAGE = msgspec.json.Decoder(WireMessage)
_ANY = msgspec.json.Decoder()


class NumberedList:
    """Numbered messages of one id, in the order of its list.

    Attributes:
        epoch: random, so no position of another list fits.
        acknowledged: the sequence up to which a client has acknowledged them.
    """

    def __init__(self) -> None:
        self.epoch = os.urandom(8).hex()
        self.acknowledged = 0
        self._gone = 0
        self._messages: list[ListedMessage] = []

    @property
    def top(self) -> int:
        """The sequence of the last message."""
        return self._gone + len(self._messages)

    @property
    def has_leftovers(self) -> bool:
        """Whether the list may still hold acknowledged messages."""
        return self._gone < self.acknowledged

    @property
    def leftovers(self) -> Sequence[ListedMessage]:
        """The acknowledged messages that may still be in the list."""
        return self._messages[: self.acknowledged - self._gone]

    def merge(self, there: Sequence[ListedMessage]) -> list[Entry]:
        """Update from the current list; return the new messages."""
        gone = passed(self._messages, there)
        self._gone += gone
        del self._messages[:gone]
        self.acknowledged = max(self.acknowledged, self._gone)
        before = self.top
        self._messages.extend(there[len(self._messages) :])
        return self._entries(before)

    def acknowledge(self, sequence: int) -> bool:
        """Note that a client has the messages up to `sequence`; return whether that is new."""
        if not self.acknowledged < sequence <= self.top:
            return False
        self.acknowledged = sequence
        return True

    def settle(self, sequence: int) -> None:
        """Note that the list no longer holds the messages up to `sequence`."""
        count = max(0, sequence - self._gone)
        self._gone += count
        del self._messages[:count]
        self.acknowledged = max(self.acknowledged, self._gone)

    def page(self, status: PageStatus, after: int) -> Page:
        """Return a page with all messages after a sequence, without acknowledged ones."""
        start = min(max(after, self.acknowledged), self.top)
        return Page(status, self.epoch, start, self.top, 0, tuple(self._entries(start)))

    def _entries(self, after: int) -> list[Entry]:
        fresh = self._messages[after - self._gone :]
        return [Entry(number, "", each.frame) for number, each in enumerate(fresh, after + 1)]


ATTEMPTS = 20
"""Attempts to change a list while other processes change it, too."""

_log = logging.getLogger("mesa_ws.backend")


class WaitingLists:
    """The lists of the ids of one node; for its event loop only.

    Args:
        pipeline: the connection to Redis.
        keys: names of the namespace.
        receive: called with messages that are found late.
        holds: returns whether the node holds an id.
    """

    def __init__(
        self, pipeline: Pipeline, keys: Mesa1Keys, receive: Receive, holds: Callable[[str], bool]
    ) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._receive = receive
        self._holds = holds
        self._lists: dict[str, NumberedList] = {}
        self._shrinker: asyncio.Task[None] | None = None
        self._due: dict[str, None] = {}

    async def took(self, id: str, raw: bytes) -> Page:
        """Return the page of a connection that logs in, from the list that was read with the login."""
        found = await self._readable(id, raw)
        is_new = id not in self._lists
        numbered = self._lists.setdefault(id, NumberedList())
        fresh = numbered.merge(found.messages)
        if not is_new:
            self._offer(id, numbered, fresh)
        return numbered.page("fresh", numbered.acknowledged)

    def dropped(self, id: str) -> Page:
        """Return the page of a connection that wants no stored messages; the list was deleted."""
        numbered = self._lists.setdefault(id, NumberedList())
        numbered.merge(())
        return numbered.page("fresh", numbered.top)

    async def read(self, reads: Sequence[Read]) -> list[Page]:
        """Return the messages after positions; raise `BackendError` if Redis did not answer."""
        ids = list(dict.fromkeys(read.id for read in reads))
        await self._look(ids, offers=False)
        return [self._page(read) for read in reads]

    async def look(self, ids: Iterable[str]) -> None:
        """Read the lists of ids again, and deliver new messages.

        Raises:
            BackendError: Redis did not answer.
        """
        await self._look([id for id in ids if self._holds(id)], offers=True)

    def acknowledge(self, acknowledgements: Iterable[Acknowledgement]) -> None:
        """Remove received messages from their lists, soon."""
        for id, position, _ in acknowledgements:
            numbered = self._lists.get(id)
            if (
                numbered is not None
                and numbered.epoch == position.epoch
                and numbered.acknowledge(position.sequence)
            ):
                self._due[id] = None
        self.go_on()

    def go_on(self) -> None:
        """Shrink the lists that hold acknowledged messages."""
        if self._due and self._shrinker is None:
            self._shrinker = start(self._shrink_all(), name="mesa1-lists")

    def forget(self, id: str) -> None:
        """Forget an id that the node no longer holds, once its list holds no acknowledged messages."""
        numbered = self._lists.get(id)
        if numbered is not None and not numbered.has_leftovers:
            del self._lists[id]

    async def aclose(self) -> None:
        """Finish shrinking lists, within the time limits of the pipeline."""
        if self._shrinker is not None:
            await asyncio.wait([self._shrinker])

    def _page(self, read: Read) -> Page:
        numbered = self._lists.setdefault(read.id, NumberedList())
        is_known = read.position.epoch == numbered.epoch and read.position.sequence <= numbered.top
        status: PageStatus = "resumed" if is_known else "reset"
        return numbered.page(status, read.position.sequence if is_known else numbered.acknowledged)

    async def _look(self, ids: Sequence[str], *, offers: bool) -> None:
        for some in chunks(ids, MAX_IDS):
            [raws] = await self._pipeline.execute([commands.kept(self._keys, some)])
            for id, raw in zip(some, raws, strict=True):
                found = await self._readable(id, raw)
                numbered = self._lists.get(id)
                if numbered is None and (not offers or not found.messages):
                    continue
                numbered = self._lists.setdefault(id, NumberedList())
                fresh = numbered.merge(found.messages)
                if offers:
                    self._offer(id, numbered, fresh)

    async def _readable(self, id: str, raw: bytes | None) -> WaitingList:
        """Read a list; a corrupt one is set aside and replaced by its messages, so that the id can log in."""
        found = WaitingList.of(raw)
        if found.is_corrupt:
            call = commands.swap(self._keys, id, found.raw, joined(found.messages), sets_aside=True)
            [is_done] = await self._pipeline.execute([call.command])
            warn_of_corruption(self._keys, [id] if is_done else [])
        return found

    def _offer(self, id: str, numbered: NumberedList, entries: Sequence[Entry]) -> None:
        """Deliver messages that were found; a connection that is logging in has them on its page."""
        for entry in entries:
            who = Recipients(False, (id,), frozenset())
            at = Position(numbered.epoch, entry.sequence)
            self._receive(Envelope(who, entry.body, "message", entry.message_id, positions=(at,)))

    async def _shrink_all(self) -> None:
        try:
            while self._due:
                id = next(iter(self._due))
                del self._due[id]
                numbered = self._lists.get(id)
                if numbered is None:
                    continue
                try:
                    await self._shrink(id, numbered)
                except BackendError as error:
                    _log.debug("the messages that %r has received are still stored: %s", id, error)
                    self._due[id] = None
                    return
                if not self._holds(id):
                    self.forget(id)
        finally:
            self._shrinker = None

    async def _shrink(self, id: str, numbered: NumberedList) -> None:
        """Remove the acknowledged messages from a list, and no others, even while others write to it."""
        for _ in range(ATTEMPTS):
            leftovers, until = numbered.leftovers, numbered.acknowledged
            [[raw]] = await self._pipeline.execute([commands.kept(self._keys, [id])])
            there = await self._readable(id, raw)
            gone = passed(leftovers, there.messages)
            left = len(leftovers) - gone
            if not left:
                numbered.settle(until)
                return
            call = commands.swap(self._keys, id, there.raw, there.without(left))
            [is_done] = await self._pipeline.execute([call.command])
            if is_done:
                numbered.settle(until)
                return
        self._due[id] = None
