"""JSON on the WebSocket: one frame is `{"op": int, "d": any, "t"?: str, "s"?: int, "b"?: int, "x"?: any}`.

A message is encoded once, into its *body*, for all recipients; `numbered`, `numbered_broadcast`
and `extended` add what concerns one recipient to a finished body, without touching the rest.
`joined` puts several together that leave in one write.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any

import msgspec

from ..errors import InvalidMessage
from .json_keys import check_keys
from .message import MAX_OPCODE, PROTOCOL_OPCODES, Message, Op

MAX_SEQUENCE = 2**53 - 1
"""The largest integer that every JSON reader holds exactly (RFC 8259 section 6)."""

HEAD_SIZE = 4
"""Bytes of the head of a WebSocket frame of less than 64 KiB from a server, at most."""

Opcode = Annotated[int, msgspec.Meta(ge=0, le=MAX_OPCODE)]
Sequence = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQUENCE)]


class Frame(msgspec.Struct, frozen=True, gc=False):
    """A frame of the wire; a missing `op` counts as 0, an ordinary message."""

    op: Opcode = Op.DISPATCH.value
    d: Any = None
    t: str | msgspec.UnsetType | None = msgspec.UNSET
    s: Sequence | msgspec.UnsetType = msgspec.UNSET
    b: Sequence | msgspec.UnsetType = msgspec.UNSET
    x: Any = msgspec.UNSET

    def message(self) -> Message:
        """Return the message that this frame carries."""
        type = self.t if self.t is not msgspec.UNSET else None
        sequence = self.s if self.s is not msgspec.UNSET else None
        return Message(self.op, self.d, type, sequence=sequence)


class RawFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame as it was received: its syntax is checked, and its `d` stays text until it is needed.

    The text takes as much memory as it took on the wire; decoded it may take 25 times as much.
    Numbers in it may be beyond what can be held, which only `data` finds out.
    """

    op: Opcode = Op.DISPATCH.value
    d: msgspec.Raw = msgspec.Raw(b"null")
    t: str | msgspec.UnsetType | None = msgspec.UNSET
    s: Sequence | msgspec.UnsetType = msgspec.UNSET
    b: Sequence | msgspec.UnsetType = msgspec.UNSET
    x: Any = msgspec.UNSET

    def data(self) -> Any:
        """Decode `d`.

        Raises:
            InvalidFrame: numbers or nesting beyond what can be held.
        """
        try:
            return _DATA.decode(self.d)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidFrame(str(error)) from None

    def message(self) -> Message:
        """Decode the message that this frame carries.

        Raises:
            InvalidFrame: as `data`.
        """
        type = self.t if self.t is not msgspec.UNSET else None
        sequence = self.s if self.s is not msgspec.UNSET else None
        return Message(self.op, self.data(), type, sequence=sequence)

    def without_extension(self) -> "RawFrame":
        """Return the frame without its `x`."""
        return self if self.x is msgspec.UNSET else msgspec.structs.replace(self, x=msgspec.UNSET)

    def body(self) -> bytes:
        """Encode the message like `encode_frame`, with `d` as it was received; call `data` first."""
        return _ENCODER.encode(RawFrame(self.op, self.d, self.t if self.t is not None else msgspec.UNSET))


class InvalidFrame(ValueError):
    """Error of bytes that are not a frame; the text says why."""


def encode_frame(op: int, data: Any = None, type: str | None = None) -> bytes:
    """Encode one frame as UTF-8 JSON, keys in the order op, d, t.

    Raises:
        InvalidMessage: JSON cannot hold `data`.
    """
    try:
        body = _ENCODER.encode(Frame(op, data, type if type is not None else msgspec.UNSET))
        if data is not None:
            _check_keys(data)
        return body
    except InvalidMessage:
        raise
    except RecursionError:
        problem = "it contains itself, or is nested too deep; flatten it"
    except UnicodeEncodeError:
        problem = "its text, or the type, holds a lone surrogate; replace that before sending"
    except (TypeError, ValueError, OverflowError) as error:
        with suppress(RecursionError):  # it contains itself, but that was not found first
            check_keys(data, _KEYS.encode)
        problem = str(error)
    raise InvalidMessage(f"data: expected something JSON can hold, got {_brief(data)}: {problem}")


def encode_message(message: Message, reserved: Container[int] = PROTOCOL_OPCODES) -> bytes:
    """Encode the body of an application's message.

    Args:
        message: what to encode.
        reserved: opcodes that belong to the protocol of the wire.

    Raises:
        InvalidMessage: JSON cannot hold its data, or its opcode belongs to the protocol.
    """
    if not isinstance(message, Message):
        raise InvalidMessage(
            f"message: expected a Message, got {_brief(message)}; write Message(0, data, type)"
        )
    if message.opcode in reserved:
        raise InvalidMessage(
            f"opcode: expected one that the protocol does not use, got {message.opcode}; "
            "use 0, or DispatchEvent('DISCONNECT_CLIENT') to disconnect clients"
        )
    return encode_frame(message.opcode, message.data, message.type)


def numbered(body: bytes, sequence: int) -> bytes:
    """Return `body` with `sequence` as its `s`, the place in its recipient's outbox."""
    return b'%s,"s":%d}' % (body[:-1], sequence)


def numbered_broadcast(body: bytes, sequence: int) -> bytes:
    """Return `body` with `sequence` as its `b`, the place among the messages to everybody."""
    return b'%s,"b":%d}' % (body[:-1], sequence)


def extended(body: bytes, extension: Mapping[str, Any]) -> bytes:
    """Return `body` with `extension`, plain JSON of the protocol, as its `x`."""
    return b'%s,"x":%s}' % (body[:-1], _ENCODER.encode(extension))


def joined(bodies: Iterable[bytes]) -> bytes:
    """Return bodies of less than 64 KiB as WebSocket text frames of a server (RFC 6455 section 5.2)."""
    return b"".join(part for body in bodies for part in (_head(len(body)), body))


def _head(size: int) -> bytes:
    return bytes((0x81, size)) if size < 126 else bytes((0x81, 126, size >> 8, size & 255))


def decode_frame(payload: bytes | memoryview) -> Frame:
    """Decode what a peer sent.

    Raises:
        InvalidFrame: not UTF-8, not JSON, not an object, members of the wrong type, or numbers
            and nesting beyond what can be held.
    """
    try:
        return _DECODER.decode(str(payload, "utf-8"))  # msgspec passes over what it does not need
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFrame(str(error)) from None


def decode_raw_frame(payload: bytes) -> RawFrame:
    """Decode what a peer sent, except its `d`.

    Raises:
        InvalidFrame: as `decode_frame`, except for numbers in `d`.
    """
    try:
        if not payload.isascii():
            str(payload, "utf-8")  # msgspec passes over what it does not need
        return _RAW_DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidFrame(str(error)) from None


def _check_keys(data: Any) -> None:
    """Check the keys of `data`; data whose keys are all text, the usual case, costs one more encoding."""
    try:
        _KEYS.encode(data)
    except (TypeError, ValueError, OverflowError):
        check_keys(data, _KEYS.encode)


def _foreign(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    for kind, plain in _PLAIN.items():
        if isinstance(value, kind) and not isinstance(value, bool):
            return plain(value)
    raise TypeError(
        f"no JSON form for {type(value).__module__}.{type(value).__qualname__}; "
        "convert it, for example to a dict or to text"
    )


def _brief(value: object) -> str:
    return f"a value of type {type(value).__name__}"


_PLAIN: dict[type, Callable[[Any], object]] = {
    str: str.__str__,  # `str(value)` may return a subclass again
    int: int.__int__,
    float: float.__float__,
}
"""What turns an instance of a subclass into one of the type itself."""

_ENCODER = msgspec.json.Encoder(enc_hook=_foreign, decimal_format="string")
_KEYS = msgspec.json.Encoder(enc_hook=_foreign, decimal_format="string", order="sorted")
"""Refuses every dict with a key that is not text; what it writes is not used."""

_DECODER = msgspec.json.Decoder(Frame)
_RAW_DECODER = msgspec.json.Decoder(RawFrame)
_DATA = msgspec.json.Decoder()
