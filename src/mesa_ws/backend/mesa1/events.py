"""What is published for portals, and by them.

On `portal`, for the portal that is named: `{"type", "message": {"op", "d", "t"}, "clientId",
"portalId"}`; there is a message for messages, and a client id once a client has authenticated. A
message without data has no `d`, so that handlers of 1.x see undefined. `x` is ours, for our portals;
1.x passes over members that it does not know.

On `available_portals_pool`: `{"id", "ready"}`.

On the channel of a node of ours: `{"to", "frame"}`, what a portal answers to one connection.
"""

import re
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from ...envelope import Envelope, new_message_id
from ...recipients import Recipients, id_problem
from ..inbox import Letter, LetterKind
from .payload import Carried, InvalidPayload, name_of


class Heard(NamedTuple):
    """An event, and the portal that it is for."""

    portal_id: str
    letter: Letter


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
    type: LetterKind
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


def event_payload(letter: Letter, portal_id: str) -> bytes:
    """What tells a portal of a letter."""
    parts = [b'{"type":"%s"' % letter.kind.encode()]
    if letter.kind == "message":
        parts.append(b',"message":' + _NO_DATA.sub(rb"\1", letter.data))
    if letter.id is not None:
        parts.append(b',"clientId":' + msgspec.json.encode(letter.id))
    parts.append(b',"portalId":' + msgspec.json.encode(portal_id))
    origin = {"c": letter.connection_id, "n": letter.node, "s": letter.sequence}
    end = b',"e":' + letter.data if letter.kind == "disconnection" and letter.data else b""
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
    return Heard(event.portalId, Letter(origin.c, 0, sequence, event.type, id, origin.n, data))


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
