"""What is published on `ws`: `{"message": {"op", "d", "t", "o"}, "recipients": [...]}`.

`recipients` are ids, or `"*"` among them for everybody. Two members are ours: `excluding`, ids that do
not get a message to everybody, and `id`, by which a server knows what it has sent itself. 1.x passes
over members that it does not know.

What is published for portals, and by them.

On `portal`, for the portal that is named: `{"type", "message": {"op", "d", "t"}, "clientId",
"portalId"}`; there is a message for messages, and a client id once a client has authenticated. A
message without data has no `d`, so that handlers of 1.x see undefined. `x` is ours, for our portals;
1.x passes over members that it does not know.

On `available_portals_pool`: `{"id", "ready"}`.

On the channel of a node of ours: `{"to", "frame"}`, what a portal answers to one connection.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from ...messages.envelope import Envelope, Kind, new_message_id
from ...messages.message import DISCONNECT_CLIENT, MAX_OPCODE, Op
from ...messages.recipients import Recipients, id_problem
from ..inbox import EventKind, InboxEvent

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


class Heard(NamedTuple):
    """An event, and the portal that it is for."""

    portal_id: str
    event: InboxEvent


class Notice(NamedTuple):
    """A portal comes, or goes."""

    portal_id: str
    is_ready: bool


class _Origin(msgspec.Struct, frozen=True, gc=False):
    """What our servers add: connection, node, sequence; code and reason of a disconnection."""

    c: str
    n: str
    s: str
    e: tuple[int, str] | None = None


class _Event(msgspec.Struct, frozen=True, gc=False):
    type: EventKind
    portalId: str  # noqa: N815 - as 1.x has it
    message: Carried | None = None
    clientId: Any = None  # noqa: N815
    x: msgspec.Raw = msgspec.Raw(b"")


class _Notice(msgspec.Struct, frozen=True, gc=False):
    id: str
    ready: bool


class _Answer(msgspec.Struct, frozen=True, gc=False):
    to: str
    frame: msgspec.Raw


_EVENT = msgspec.json.Decoder(_Event)
_ORIGIN = msgspec.json.Decoder(_Origin)
_NOTICE = msgspec.json.Decoder(_Notice)
_ANSWER = msgspec.json.Decoder(_Answer)
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_DATA = re.compile(rb'^({"op":\d+),"d":null(?=[,}])')
_NOT_KNOWN = _Origin("", "", "")


def event_payload(event: InboxEvent, portal_id: str) -> bytes:
    """What tells a portal of an event."""
    parts = [b'{"type":"%s"' % event.kind.encode()]
    if event.kind == "message":
        parts.append(b',"message":' + _NO_DATA.sub(rb"\1", event.data))
    if event.id is not None:
        parts.append(b',"clientId":' + msgspec.json.encode(event.id))
    parts.append(b',"portalId":' + msgspec.json.encode(portal_id))
    origin = {"c": event.connection_id, "n": event.node, "s": event.sequence}
    end = b',"e":' + event.data if event.kind == "disconnection" and event.data else b""
    parts.append(b',"x":' + msgspec.json.encode(origin)[:-1] + end + b"}}")
    return b"".join(parts)


def read_event(payload: bytes) -> Heard:
    """Read what came in on `portal`.

    An event of a server of 1.x does not say which connection it is about, nor which node; it gets a
    random sequence.

    Raises:
        InvalidPayload: it is no event.
    """
    try:
        event = _EVENT.decode(payload.decode())
    except _BROKEN:
        raise InvalidPayload("not an event as JSON") from None
    data = b""
    if event.type == "message":
        if event.message is None or not event.message.is_sayable:
            raise InvalidPayload("no message")
        data = event.message.frame
    id = name_of(event.clientId)
    if id is not None and id_problem(id) is not None:
        raise InvalidPayload("a client id that cannot be one")
    origin = _origin(bytes(event.x))
    if event.type == "disconnection" and origin.e is not None:
        data = msgspec.json.encode(origin.e)
    sequence = origin.s if origin.c else uuid4().hex
    return Heard(event.portalId, InboxEvent(origin.c, 0, sequence, event.type, id, origin.n, data))


def notice_payload(notice: Notice) -> bytes:
    """What says that a portal comes or goes."""
    return msgspec.json.encode(_Notice(*notice))


def read_notice(payload: bytes) -> Notice:
    """Read what came in on `available_portals_pool`.

    Raises:
        InvalidPayload: it says nothing of portals.
    """
    try:
        notice = _NOTICE.decode(payload)
    except _BROKEN:
        raise InvalidPayload("not the id of a portal, and whether it is ready, as JSON") from None
    return Notice(notice.id, notice.ready)


def answer_payload(envelope: Envelope) -> bytes:
    """What hands a message to the one connection that an envelope is for."""
    [connection_id] = envelope.recipients.ids
    return b'{"to":%s,"frame":%s}' % (msgspec.json.encode(connection_id), envelope.body)


def read_answer(payload: bytes) -> Envelope:
    """Read what came in on the channel of this node.

    Raises:
        InvalidPayload: it is no message to a connection.
    """
    try:
        answer = _ANSWER.decode(payload.decode())
    except _BROKEN:
        raise InvalidPayload("not a connection and its message as JSON") from None
    who = Recipients(False, (answer.to,), frozenset())
    return Envelope(who, bytes(answer.frame), "connection", new_message_id())


def _origin(given: bytes) -> _Origin:
    """Where an event comes from; whatever else stands there is somebody else's."""
    try:
        return _ORIGIN.decode(given) if given else _NOT_KNOWN
    except _BROKEN:
        return _NOT_KNOWN
