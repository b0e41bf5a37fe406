"""Commands for outboxes, and the meaning of their replies. No I/O.

As in `node_commands`, pure functions return `Call`s, and others read their replies.
"""

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any, NamedTuple

import msgspec

from ...messages.envelope import Retention
from ...messages.receipt import OutboxHead, Position, Range, Stored
from ..outbox import Acknowledgement, Entry, Page, Read, Start
from ..redis_client.command import MAX_IDS, Call, chunks, ms
from ..redis_wire.timing import EXPIRY
from .keys import POSITION_LIFE, Keys, outbox_keys
from .node_commands import MAX_BYTES, MAX_ENTRIES, NodeCommands
from .scripts import ACK, BROADCASTS, HEADS, IMPORT, PEEK, PURGE, WAITING


class RawEntry(NamedTuple):
    """One entry in the list of an outbox.

    Attributes:
        at: time when it was stored, in seconds of Unix time.
        expires: time when it expires, in seconds of Unix time.
        message_id: id of its dispatch.
        body: the encoded frame; for a message to `*`, the excluded ids precede it.
    """

    at: float
    expires: float
    message_id: str
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> "RawEntry":
        """Read an entry.

        Raises:
            InvalidEntry: the bytes are not an entry.
        """
        if len(raw) < _HEAD.size:
            raise InvalidEntry(f"expected at least {_HEAD.size} bytes, got {len(raw)}")
        at, expires, _, size = _HEAD.unpack_from(raw)
        end = _HEAD.size + size
        if len(raw) < end:
            raise InvalidEntry(f"expected a message id of {size} bytes, got {len(raw) - _HEAD.size}")
        return cls(at / 1000, expires / 1000, raw[_HEAD.size : end].decode(errors="replace"), raw[end:])

    @property
    def for_everybody(self) -> tuple[frozenset[str], bytes]:
        """The excluded ids, and the encoded frame.

        Raises:
            InvalidEntry: the entry is not one for `*`.
        """
        start = 4 + int.from_bytes(self.body[:4], "big")
        if len(self.body) < start:
            raise InvalidEntry(f"expected a list of {start - 4} bytes, got {max(0, len(self.body) - 4)}")
        try:
            return _EXCLUDING.decode(self.body[4:start]), self.body[start:]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidEntry(str(error)) from None


class InvalidEntry(ValueError):
    """An outbox holds bytes that Mesa did not write."""


_HEAD = Struct(">dddB")
_EXCLUDING = msgspec.msgpack.Decoder(frozenset[str])


MAX_PEEK = 1000
"""Maximum number of messages that `peek` returns."""


class OutboxReply(NamedTuple):
    """Reply to `enter` or `read` for one outbox.

    Attributes:
        page: its messages.
        came_online: whether the id came online by this call.
        is_corrupt: whether the outbox was corrupt and was set aside; see `Keys.set_aside`.
    """

    page: Page
    came_online: bool
    is_corrupt: bool


def enter(
    commands: NodeCommands, id: str, held: tuple[int, int], start: Start, *, is_announced: bool = False
) -> Call:
    """Record an id and read its outbox, in one step; `answers` reads the reply.

    Args:
        commands: the node's.
        id: the id whose connection came.
        held: number of sockets of the id there, and the version of that entry.
        start: the position from which the connection's messages are read.
        is_announced: whether this node has announced the id as online.
    """
    epoch, sequence = _position_args(start.position)
    wish = (id, *held, int(is_announced), start.mode, epoch, sequence, int(start.is_wire2))
    return commands.visit([id], wish)


def read(commands: NodeCommands, reads: Sequence[Read]) -> list[Call]:
    """Read the next pages of outboxes; `answers` reads each reply.

    A page may be empty although messages follow, when others of the same call used up its size.
    """
    return [
        commands.visit([each.id for each in some], [part for each in some for part in _wish(each)])
        for some in chunks(reads, MAX_IDS)
    ]


def answers(reply: Any) -> list[OutboxReply] | None:
    """Read the reply to `enter` or `read`; None when the lease is lost."""
    if reply == 0:
        return None
    return [OutboxReply(_page(each[1:9], each[9:], _entry), each[0] == 1, each[6] == 1) for each in reply]


def acknowledge(commands: NodeCommands, some: Sequence[tuple[Acknowledgement, int]]) -> list[Call]:
    """Record acknowledgements, each with the version of the id's entry; the replies are ignored.

    The version is that of the entry from which the floor was computed: a newer entry counts a connection
    that this floor does not cover.
    """
    return [_acknowledge(commands, few) for few in chunks(some, MAX_IDS)]


def broadcasts(keys: Keys, position: Position | None) -> Call:
    """Read messages to `*` after a position; without one, read only the present position."""
    epoch, sequence = _position_args(position) if position else ("", 0)
    args = (MAX_ENTRIES, MAX_BYTES, ms(EXPIRY), epoch, sequence)
    return Call(BROADCASTS, (keys.broadcast_position, keys.broadcasts), args)


def broadcast_answer(reply: Sequence[Any]) -> OutboxReply:
    """Read the reply to `broadcasts`."""
    return OutboxReply(_page(reply[:8], reply[8:], _broadcast), False, reply[5] == 1)


def heads(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Read where outboxes stand; `outbox_heads` reads the replies."""
    return [Call(HEADS, tuple(_own_keys(keys, some)), ()) for some in chunks(ids, MAX_IDS)]


def outbox_heads(ids: Iterable[str], replies: Iterable[Sequence[Any]]) -> dict[str, OutboxHead | None]:
    """Read the replies to `heads`; None for an outbox that does not exist or is corrupt."""
    found = (_readable_head(each) if each else None for reply in replies for each in reply)
    return dict(zip(ids, found, strict=True))


def waiting(keys: Keys, ids: Sequence[str]) -> Call:
    """Find the ids that have messages; the reply lists their numbers, starting at 1."""
    return Call(WAITING, tuple(map(keys.outbox, ids)), ())


def peek(keys: Keys, id: str, limit: int) -> Call:
    """Read the oldest messages of an outbox, `MAX_PEEK` at most; `stored` reads the reply."""
    return Call(PEEK, tuple(_own_keys(keys, [id])), (max(1, min(limit, MAX_PEEK)),))


def stored(reply: Sequence[Any]) -> list[Stored]:
    """Read the reply to `peek`. A corrupt entry has no message id and no time."""
    return [_stored(sequence, raw) for sequence, raw in enumerate(reply[1:], reply[0] + 1)] if reply else []


def purge(keys: Keys, ids: Sequence[str]) -> list[Call]:
    """Drop the messages of ids; each reply has their number for each id."""
    return [
        Call(PURGE, tuple(_own_keys(keys, some)), (ms(POSITION_LIFE), *some)) for some in chunks(ids, MAX_IDS)
    ]


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
            keep: how the messages are kept from now on.
            window: seconds for which a late writer of 1.x may put back the moved messages.
        """
        own = (self.key, *_own_keys(keys, [self.id]))
        limits = (ms(window), retention.max_messages, retention.max_bytes, ms(retention.ttl))
        over = max(
            0, len(self.messages) - retention.max_messages
        )  # 1.x has no limits; a script must not take long
        messages = (part for message in self.messages[over:] for part in message)
        return Call(IMPORT, own, (self.id, self.value, *limits, over, *messages))


def _wish(each: Read) -> tuple[str | int, ...]:
    return (each.id, "", 0, 0, "read", *_position_args(each.position), int(each.is_wire2))


def _position_args(position: Position | None) -> tuple[str, int]:
    """Return a position that a script can read; one that no outbox gave out stays unknown."""
    if position is None or not (position.epoch.isascii() and position.epoch.isalnum()):
        return "-", 0
    return position


def _acknowledge(commands: NodeCommands, some: Sequence[tuple[Acknowledgement, int]]) -> Call:
    keys = (commands.keys.leases, *outbox_keys(commands.keys, [each.id for each, _ in some]))
    args = (part for each, version in some for part in (*_position_args(each.position), each.floor, version))
    return Call(ACK, keys, (commands.node, round(commands.window * 1000), *args))


def _own_keys(keys: Keys, ids: Iterable[str]) -> list[str]:
    return [key for id in ids for key in (keys.position(id), keys.outbox(id))]


def _page(head: Sequence[Any], raws: Iterable[bytes], entry: Callable[[int, bytes], Entry]) -> Page:
    status, epoch, top, start, lost, _, ended, rollback = head
    entries = tuple(entry(sequence, raw) for sequence, raw in enumerate(raws, start + 1))
    until = ended if ended != b"" else None
    return Page(status.decode(), epoch.decode(), start, top, lost, entries, until, rollback.decode())


def _entry(sequence: int, raw: bytes) -> Entry:
    read = RawEntry.of(raw)
    return Entry(sequence, read.message_id, read.body)


def _broadcast(sequence: int, raw: bytes) -> Entry:
    read = RawEntry.of(raw)
    excluding, body = read.for_everybody
    return Entry(sequence, read.message_id, body, excluding)


def _stored(sequence: int, raw: bytes) -> Stored:
    try:
        read = RawEntry.of(raw)
    except InvalidEntry:
        return Stored(sequence, "", 0.0, 0.0, raw)
    return Stored(sequence, read.message_id, read.at, read.expires, read.body)


def _readable_head(members: Sequence[Any]) -> OutboxHead | None:
    try:
        return _head(*members)
    except ValueError:  # the script checks only the characters of forks and ranges
        return None


def _head(epoch: bytes, top: int, acknowledged: int, forks: bytes, ranges: bytes, length: int) -> OutboxHead:
    older = (fork.split(":") for fork in forks.decode().split(",") if fork)
    dropped = [_range(text) for text in ranges.decode().split(",") if text]
    first = max(acknowledged, dropped[-1][1] if dropped else 0) + 1
    if first <= top - length:  # left the list, and no script has recorded it since
        dropped.append((first, top - length))
    positions = tuple(Position(epoch, int(ended)) for epoch, ended in older)
    return OutboxHead(epoch.decode(), top, acknowledged, length, positions, tuple(dropped))


def _range(text: str) -> Range:
    first, last = text.split("-")
    return int(first), int(last)
