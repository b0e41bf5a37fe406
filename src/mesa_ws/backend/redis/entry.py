"""What outboxes hold: what `scripts/outbox.lua` writes, read again."""

from struct import Struct
from typing import NamedTuple

import msgspec


class RawEntry(NamedTuple):
    """One member of an outbox's list.

    Attributes:
        at: when it was stored, in seconds of Unix time.
        expires: when its life ends, in seconds of Unix time.
        message_id: names its dispatch.
        body: the encoded frame; behind the exclusions, among messages to everybody.
    """

    at: float
    expires: float
    message_id: str
    body: bytes

    @classmethod
    def of(cls, raw: bytes) -> "RawEntry":
        """Read a member.

        Raises:
            InvalidEntry: it is none.
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
        """The ids that are left out, and the encoded frame.

        Raises:
            InvalidEntry: it is none of those to everybody.
        """
        start = 4 + int.from_bytes(self.body[:4], "big")
        if len(self.body) < start:
            raise InvalidEntry(f"expected a list of {start - 4} bytes, got {max(0, len(self.body) - 4)}")
        try:
            return _EXCLUDING.decode(self.body[4:start]), self.body[start:]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InvalidEntry(str(error)) from None


class InvalidEntry(ValueError):
    """Bytes in an outbox that Mesa did not write."""


_HEAD = Struct(">dddB")
_EXCLUDING = msgspec.msgpack.Decoder(frozenset[str])
