"""JSON on the WebSocket: one frame is `{"op": int, "d": any, "t"?: str, "s"?: int}`.

A message is encoded once, into its *body*, whoever receives it; `numbered` adds a recipient's
sequence to a finished body without touching the rest.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from .errors import InvalidMessage
from .message import MAX_OPCODE, PROTOCOL_OPCODES, Message, Op


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame as it stands on the wire; a missing `op` counts as 0, an ordinary message."""

    op: int = Op.DISPATCH.value
    d: Any = None
    t: str | msgspec.UnsetType | None = msgspec.UNSET
    s: int | msgspec.UnsetType = msgspec.UNSET

    def message(self) -> Message:
        """The message this frame carries."""
        type = self.t if self.t is not msgspec.UNSET else None
        sequence = self.s if self.s is not msgspec.UNSET else None
        return Message(self.op, self.d, type, sequence=sequence)


class InvalidFrame(ValueError):
    """Bytes that are not a frame; the text says why."""


def encode_frame(op: int, data: Any = None, type: str | None = None) -> bytes:
    """Encode one frame as UTF-8 JSON, keys in the order op, d, t.

    Raises:
        InvalidMessage: JSON cannot hold `data`.
    """
    try:
        return _ENCODER.encode(Frame(op, data, type if type is not None else msgspec.UNSET))
    except RecursionError:
        problem = "it contains itself, or is nested too deep"
    except (TypeError, ValueError, OverflowError) as error:
        problem = str(error)
    raise InvalidMessage(f"data: expected something JSON can hold, got {_brief(data)}: {problem}")


def encode_message(message: Message) -> bytes:
    """Encode the body of an application's message.

    Raises:
        InvalidMessage: JSON cannot hold its data, or its opcode belongs to the protocol.
    """
    if not isinstance(message, Message):
        raise InvalidMessage(
            f"message: expected a Message, got {_brief(message)}; write Message(0, data, type)"
        )
    if message.opcode in PROTOCOL_OPCODES:
        raise InvalidMessage(
            f"opcode: expected one that the protocol does not use, got {message.opcode}; "
            "use 0, or DispatchEvent('DISCONNECT_CLIENT') to disconnect clients"
        )
    return encode_frame(message.opcode, message.data, message.type)


def numbered(body: bytes, sequence: int) -> bytes:
    """Return `body` with `sequence` as its `s`."""
    return b'%s,"s":%d}' % (body[:-1], sequence)


def decode_frame(payload: bytes | memoryview) -> Frame:
    """Decode what a peer sent.

    Raises:
        InvalidFrame: not UTF-8, not JSON, not an object, members of the wrong type, or numbers
            and nesting beyond what can be held.
    """
    try:
        frame = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFrame(str(error)) from None
    if not 0 <= frame.op <= MAX_OPCODE:
        raise InvalidFrame(f"op: expected an integer from 0 to {MAX_OPCODE}, got {frame.op}")
    return frame


def _foreign(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"no JSON form for {type(value).__module__}.{type(value).__qualname__}")


def _brief(value: object) -> str:
    return f"a value of type {type(value).__name__}"


_ENCODER = msgspec.json.Encoder(enc_hook=_foreign, decimal_format="string")
_DECODER = msgspec.json.Decoder(Frame)
