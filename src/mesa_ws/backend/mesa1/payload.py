"""What is published on `ws`: `{"message": {"op", "d", "t", "o"}, "recipients": [...]}`.

`recipients` are ids, or `"*"` among them for everybody. Two members are ours: `excluding`, ids that do
not get a message to everybody, and `id`, by which a server knows what it has sent itself. 1.x passes
over members that it does not know.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from ...envelope import Envelope, Kind, new_message_id
from ...message import DISCONNECT_CLIENT, MAX_OPCODE, Op
from ...recipients import Recipients, id_problem

DISCONNECT = b'{"op":5,"d":{},"t":"DISCONNECT_CLIENT"}'


class InvalidPayload(ValueError):
    """Bytes that carry no message; the text says why, and shows nothing of them."""


class Carried(msgspec.Struct, frozen=True, gc=False):
    """A message as 1.x writes it, in payloads and in lists. What is not there was undefined."""

    op: int = 0
    d: msgspec.Raw = msgspec.Raw(b"")
    t: str | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def frame(self) -> bytes:
        """The frame that clients get: without options and numbers of others."""
        parts = [b'{"op":%d' % self.op]
        if bytes(self.d):
            parts.append(b',"d":' + bytes(self.d))
        if self.t is not msgspec.UNSET:
            parts.append(b',"t":' + msgspec.json.encode(self.t))
        return b"".join(parts) + b"}"

    @property
    def is_sayable(self) -> bool:
        """Whether clients can be sent such an opcode."""
        return 0 <= self.op <= MAX_OPCODE


class _Payload(msgspec.Struct, frozen=True, gc=False):
    message: Carried
    recipients: list[Any]
    excluding: list[Any] = []
    id: Any = None


_DECODER = msgspec.json.Decoder(_Payload)


def message_json(envelope: Envelope) -> bytes:
    """A message as it is published and stored; its options are there if it says anything."""
    if envelope.kind == "disconnect":
        return DISCONNECT
    if envelope.sync is None:
        return envelope.body
    return b'%s,"o":{"sync":%s}}' % (envelope.body[:-1], b"true" if envelope.sync else b"false")


def to_everybody(message: bytes, excluding: Iterable[str] = (), more: bytes = b"") -> bytes:
    """The payload of a message to everybody, with `more` members behind the others."""
    left_out = sorted(excluding)
    without = b',"excluding":' + msgspec.json.encode(left_out) if left_out else b""
    return b'{"message":%s,"recipients":["*"]%s%s}' % (message, without, more)


def naming(message_id: str) -> bytes:
    """The member that names a message, behind others."""
    return b',"id":' + msgspec.json.encode(message_id)


def read_payload(payload: bytes) -> Envelope | None:
    """Read what came in on `ws`; None for what is meant for nobody, or is an event of no known type.

    Raises:
        InvalidPayload: it is no message.
    """
    try:
        read = _DECODER.decode(payload.decode())  # a client closes on text that is no UTF-8
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidPayload("not a message and its recipients as JSON") from None
    message = read.message
    if not message.is_sayable:
        raise InvalidPayload("an opcode that there is not")
    kind: Kind = "disconnect" if message.op == Op.EVENT else "message"
    if kind == "disconnect" and message.t != DISCONNECT_CLIENT:
        return None
    everybody = "*" in read.recipients
    ids = () if everybody else _ids(read.recipients)
    if not (everybody or ids):
        return None
    excluding = frozenset(_ids(read.excluding) if everybody else ())
    body = b"" if kind == "disconnect" else message.frame
    message_id = read.id if isinstance(read.id, str) and read.id else new_message_id()
    return Envelope(Recipients(everybody, ids, excluding), body, kind, message_id)


def _ids(given: Iterable[Any]) -> tuple[str, ...]:
    """Each id once; 1.x also names them by numbers, and what names nobody is passed over."""
    named = (name_of(each) for each in given)
    return tuple(dict.fromkeys(id for id in named if id is not None and id_problem(id) is None))


def name_of(given: Any) -> str | None:
    """An id as text; 1.x also has numbers. None for what names nobody."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    if isinstance(given, float):
        return str(int(given)) if given.is_integer() and abs(given) < 2**53 else repr(given)
    return str(given) if abs(given) <= 2**63 else None
