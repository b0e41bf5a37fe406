"""What users send: `Message`, and `DispatchEvent` for what servers do to clients."""

from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidMessage

DISPATCH = 0
"""Opcode of an ordinary message."""

EVENT = 5
"""Opcode of an internal event; travels between processes, never to a client."""

PROTOCOL_OPCODES = frozenset({1, 2, 3, 5, 7, 9, 10, 11, 22})
"""Opcodes that have a meaning of their own on the wire, so no application message may use them."""

EVENTS = frozenset({"DISCONNECT_CLIENT"})

_MAX_OPCODE = 2**31 - 1


@dataclass(frozen=True, slots=True, eq=True)
class Message:
    """A message to clients, or one from a client.

    Immutable and comparable. `data` is whatever JSON can hold, and also msgspec Structs,
    dataclasses, datetimes (RFC 3339), UUIDs, Decimals (as text), enums (their value), sets and
    bytes (base64). NaN and infinities become null, as in JavaScript.

    Args:
        opcode: kind of the message; 0 for ordinary ones.
        data: the payload.
        type: name by which receivers tell messages apart.
        sync: whether this message may be stored for recipients who are away, where the
            dispatcher has sync enabled.
        sequence: number in the recipient's outbox; None for a message that was not stored.

    Raises:
        InvalidMessage: the opcode or the type is of the wrong type.
    """

    opcode: int = DISPATCH
    data: Any = None
    type: str | None = None
    sync: bool = field(default=True, kw_only=True, repr=False)
    sequence: int | None = field(default=None, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.opcode) is not int or not 0 <= self.opcode <= _MAX_OPCODE:
            raise InvalidMessage(
                f"opcode: expected an integer from 0 to {_MAX_OPCODE}, got {self.opcode!r}; "
                "the order of arguments is Message(opcode, data, type)"
            )
        if self.type is not None and not isinstance(self.type, str):
            raise InvalidMessage(f"type: expected a string or None, got {self.type!r}")
        if not isinstance(self.sync, bool):
            raise InvalidMessage(f"sync: expected True or False, got {self.sync!r}")


@dataclass(frozen=True, slots=True)
class DispatchEvent:
    """Something that servers shall do to clients; the clients themselves never see it.

    Args:
        type: `"DISCONNECT_CLIENT"` closes every connection of the recipients with code 1000.

    Raises:
        InvalidMessage: there is no such event.
    """

    type: str

    def __post_init__(self) -> None:
        if self.type not in EVENTS:
            raise InvalidMessage(f"event: expected one of {', '.join(sorted(EVENTS))}, got {self.type!r}")
