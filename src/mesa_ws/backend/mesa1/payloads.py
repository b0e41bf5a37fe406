"""Payloads on the channels of 1.x and of our nodes. 1.x ignores members that it does not know.

| channel | payload |
|---|---|
| `ws` | `{"message": {"op", "d", "t", "o"}, "recipients": [...]}`, a message |
| `portal` | `{"type", "message": {"op", "d", "t"}, "clientId", "portalId"}`, an event for one portal |
| `available_portals_pool` | `{"id", "ready"}`, a portal that comes or goes |
| a node's own | `{"to", "frame"}`, a portal's message to one connection |

`recipients` are ids, or `"*"` among them for everybody. Two members are our own: `excluding`, ids that do
not get a message to everybody, and `id`, by which a server recognises a message that it sent itself.

An event has a `message` if it is one, and a `clientId` once its client has authenticated. A message without
data has no `d`, so handlers of 1.x see undefined. The member `x` is our own, for our portals.
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
    """Payload that cannot be read; the text says why, and repeats nothing of the payload."""


class WireMessage(msgspec.Struct, frozen=True, gc=False):
    """Message as 1.x writes it, in payloads and in lists. A missing member was undefined."""

    op: int = 0
    d: msgspec.Raw = msgspec.Raw(b"")
    t: str | msgspec.UnsetType | None = msgspec.UNSET

    @property
    def frame(self) -> bytes:
        """The frame for clients: without the options and numbers of 1.x."""
        parts = [b'{"op":%d' % self.op]
        if bytes(self.d):
            parts.append(b',"d":' + bytes(self.d))
        if self.t is not msgspec.UNSET:
            parts.append(b',"t":' + msgspec.json.encode(self.t))
        return b"".join(parts) + b"}"

    @property
    def is_sayable(self) -> bool:
        """Whether a client can receive such an opcode."""
        return 0 <= self.op <= MAX_OPCODE


class _Payload(msgspec.Struct, frozen=True, gc=False):
    message: WireMessage
    recipients: list[Any]
    excluding: list[Any] = []
    id: Any = None


_DECODER = msgspec.json.Decoder(_Payload)


def message_json(envelope: Envelope) -> bytes:
    """Encode a message as 1.x publishes and stores it, with its options if it has any."""
    if envelope.kind == "disconnect":
        return DISCONNECT
    if envelope.sync is None:
        return envelope.body
    return b'%s,"o":{"sync":%s}}' % (envelope.body[:-1], b"true" if envelope.sync else b"false")


def to_everybody(message: bytes, excluding: Iterable[str] = (), more: bytes = b"") -> bytes:
    """Encode the payload of a message to everybody, with `more` members at its end."""
    left_out = sorted(excluding)
    without = b',"excluding":' + msgspec.json.encode(left_out) if left_out else b""
    return b'{"message":%s,"recipients":["*"]%s%s}' % (message, without, more)


def naming(message_id: str) -> bytes:
    """Encode the member with the id of a message, to follow others."""
    return b',"id":' + msgspec.json.encode(message_id)


def read_payload(payload: bytes) -> Envelope | None:
    """Read a payload of `ws`; None if it has no recipient, or is an event of an unknown type.

    Raises:
        InvalidPayload: it is no message.
    """
    try:
        read = _DECODER.decode(payload.decode())  # a client closes the connection on text that is no UTF-8
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidPayload("not a message and its recipients as JSON") from None
    message = read.message
    if not message.is_sayable:
        raise InvalidPayload("an opcode that does not exist")
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
    """Return each id once; 1.x also has numbers as ids, and values that are no id are ignored."""
    named = (name_of(each) for each in given)
    return tuple(dict.fromkeys(id for id in named if id is not None and id_problem(id) is None))


def name_of(given: Any) -> str | None:
    """Return an id as text; 1.x also has numbers. None for a value that is no id."""
    if isinstance(given, str):
        return given
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    if isinstance(given, float):
        return str(int(given)) if given.is_integer() and abs(given) < 2**53 else repr(given)
    return str(given) if abs(given) <= 2**63 else None


class PublishedEvent(NamedTuple):
    """An event, and the portal that it is for."""

    portal_id: str
    event: InboxEvent


class PortalNotice(NamedTuple):
    """Notice that a portal comes or goes."""

    portal_id: str
    is_ready: bool


class _Origin(msgspec.Struct, frozen=True, gc=False):
    """Members that our servers add: connection, node, sequence; code and reason of a disconnection."""

    c: str
    n: str
    s: str
    e: tuple[int, str] | None = None


class _EventForm(msgspec.Struct, frozen=True, gc=False):
    type: EventKind
    portalId: str  # noqa: N815 - as 1.x has it
    message: WireMessage | None = None
    clientId: Any = None  # noqa: N815
    x: msgspec.Raw = msgspec.Raw(b"")


class _NoticeForm(msgspec.Struct, frozen=True, gc=False):
    id: str
    ready: bool


class _ReplyForm(msgspec.Struct, frozen=True, gc=False):
    to: str
    frame: msgspec.Raw


_EVENT = msgspec.json.Decoder(_EventForm)
_ORIGIN = msgspec.json.Decoder(_Origin)
_NOTICE = msgspec.json.Decoder(_NoticeForm)
_REPLY = msgspec.json.Decoder(_ReplyForm)
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_NO_DATA = re.compile(rb'^({"op":\d+),"d":null(?=[,}])')
_NOT_KNOWN = _Origin("", "", "")


def event_payload(event: InboxEvent, portal_id: str) -> bytes:
    """Encode an event for a portal."""
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


def read_event(payload: bytes) -> PublishedEvent:
    """Read a payload of `portal`.

    An event of a server of 1.x names neither its connection nor its node; it gets a random sequence.

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
            raise InvalidPayload("an event without its message")
        data = event.message.frame
    id = name_of(event.clientId)
    if id is not None and id_problem(id) is not None:
        raise InvalidPayload("a client id that is no id")
    origin = _origin(bytes(event.x))
    if event.type == "disconnection" and origin.e is not None:
        data = msgspec.json.encode(origin.e)
    sequence = origin.s if origin.c else uuid4().hex
    return PublishedEvent(event.portalId, InboxEvent(origin.c, 0, sequence, event.type, id, origin.n, data))


def notice_payload(notice: PortalNotice) -> bytes:
    """Encode a notice of a portal."""
    return msgspec.json.encode(_NoticeForm(*notice))


def read_notice(payload: bytes) -> PortalNotice:
    """Read a payload of `available_portals_pool`; raise `InvalidPayload` if it is no notice of a portal."""
    try:
        notice = _NOTICE.decode(payload)
    except _BROKEN:
        raise InvalidPayload("not the id of a portal, and whether it is ready, as JSON") from None
    return PortalNotice(notice.id, notice.ready)


def reply_payload(envelope: Envelope) -> bytes:
    """Encode a message to the one connection that an envelope is for."""
    [connection_id] = envelope.recipients.ids
    return b'{"to":%s,"frame":%s}' % (msgspec.json.encode(connection_id), envelope.body)


def read_reply(payload: bytes) -> Envelope:
    """Read a payload of a node's own channel; raise `InvalidPayload` if it is no message to a connection."""
    try:
        answer = _REPLY.decode(payload.decode())
    except _BROKEN:
        raise InvalidPayload("not a connection and its message as JSON") from None
    who = Recipients(False, (answer.to,), frozenset())
    return Envelope(who, bytes(answer.frame), "connection", new_message_id())


def _origin(given: bytes) -> _Origin:
    """Return the origin of an event; any other value is not ours, and ignored."""
    try:
        return _ORIGIN.decode(given) if given else _NOT_KNOWN
    except _BROKEN:
        return _NOT_KNOWN
