"""What users send: `Message`, and `DispatchEvent` for what servers do to clients."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from ..errors import InvalidMessage
from ..text import plain


class Op(IntEnum):
    """Opcodes with a meaning of their own on the wire; see `spec/protocol.md`."""

    DISPATCH = 0
    HEARTBEAT = 1
    AUTHENTICATE = 2
    ACK = 3
    EVENT = 5
    RECONNECT = 7
    RESYNC = 9
    HELLO = 10
    HEARTBEAT_ACK = 11
    AUTHENTICATED = 22


PROTOCOL_OPCODES = frozenset(Op) - {Op.DISPATCH}
"""Opcodes that no application message may have."""

WIRE1_OPCODES = PROTOCOL_OPCODES - {Op.ACK, Op.RECONNECT, Op.RESYNC}
"""The same where all clients speak wire 1, which leaves the other opcodes to applications."""


def reserved_opcodes(wire: str) -> frozenset[int]:
    """Return the opcodes that no application message may have, in a cluster whose processes speak `wire`."""
    return WIRE1_OPCODES if wire == "mesa1" else PROTOCOL_OPCODES


MAX_OPCODE = 2**31 - 1

DISCONNECT_CLIENT = "DISCONNECT_CLIENT"
"""The event that closes every connection of its recipients with code 1000."""


@dataclass(init=False, frozen=True, slots=True, eq=True)
class Message:
    """A message to clients, or one from a client.

    Immutable and comparable. `data` is anything JSON can hold, and also msgspec Structs,
    dataclasses, datetimes (RFC 3339), UUIDs, Decimals (as text), enums (their value), sets and
    bytes (base64). NaN and infinities become null, as in JavaScript. Keys are text; integers as
    keys become text. The data is checked when the message is sent: other keys are an error that
    names their path, and so are two keys of one dict that become the same text.

    Args:
        opcode: kind of the message; 0 for ordinary ones.
        data: the payload.
        type: name by which receivers tell messages apart.
        sync: False if this message must not be stored for recipients who are away; True or None,
            the default, if it may, where the dispatcher has sync enabled.
        sequence: number in the recipient's outbox; None for a message that was not stored.

    Raises:
        InvalidMessage: the opcode or the type is of the wrong type.
    """

    opcode: int = 0
    data: Any = None
    type: str | None = None
    sync: bool | None = field(default=None, kw_only=True, repr=False)
    sequence: int | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __init__(  # written out, since the one of a dataclass that checks its arguments takes twice as long
        self,
        opcode: int = 0,
        data: Any = None,
        type: str | None = None,
        *,
        sync: bool | None = None,
        sequence: int | None = None,
    ) -> None:
        if _kind(opcode) is not int or not 0 <= opcode <= MAX_OPCODE:
            _check_opcode(opcode)
        if type is not None and _kind(type) is not str:
            type = _plain_type(type)
        if sync is not None and not isinstance(sync, bool):
            raise InvalidMessage(f"sync: expected True, False or None, got {sync!r}")
        write = object.__setattr__
        write(self, "opcode", opcode)
        write(self, "data", data)
        write(self, "type", type)
        write(self, "sync", sync)
        write(self, "sequence", sequence)


_kind = type


def _check_opcode(opcode: object) -> None:
    if not isinstance(opcode, int) or isinstance(opcode, bool) or not 0 <= opcode <= MAX_OPCODE:
        raise InvalidMessage(
            f"opcode: expected an integer from 0 to {MAX_OPCODE}, got {opcode!r}; "
            "the order of arguments is Message(opcode, data, type)"
        )


def _plain_type(type: object) -> str:
    if not isinstance(type, str):
        raise InvalidMessage(f"type: expected a string or None, got {type!r}")
    return plain(type)


@dataclass(frozen=True, slots=True)
class DispatchEvent:
    """An instruction for servers to do something to clients, which the clients themselves never see.

    Args:
        type: `"DISCONNECT_CLIENT"` closes every connection of the recipients with code 1000, also at a server
            that is cut off, once it is back; not on wire `mesa1`. `disconnect` chooses the code.

    Raises:
        InvalidMessage: there is no such event.
    """

    type: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", plain(self.type))
        if self.type != DISCONNECT_CLIENT:
            raise InvalidMessage(f"event: expected {DISCONNECT_CLIENT!r}, got {self.type!r}")


def as_message(result: object, request: Message) -> Message:
    """Return the answer to `request` for the result of a handler; plain data gets the type of the request."""
    return result if isinstance(result, Message) else Message(0, result, request.type)
