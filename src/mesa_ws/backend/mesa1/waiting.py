"""The JSON lists in which 1.x keeps messages, as values.

Other writers read a list, add to it and write all of it again, so the same message may come back in
other bytes: without spaces, with members sorted by number, with `1` for `1.0`. Messages are compared
by what they say.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from ...message import Op
from .payload import Carried


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
