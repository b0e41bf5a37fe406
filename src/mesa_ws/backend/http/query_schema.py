"""What a server's HTTP API tells about its cluster: who is online, and how far outboxes are.

| question | answer |
|---|---|
| `POST /v1/presence {"ids": [...]}` | `{"online": {id: connections}}` |
| `POST /v1/presence {}` | `{"count": ids that are online}` |
| `POST /v1/presence/ids {"cursor": ""}` | `{"ids": [...], "cursor": of the next page, or null}` |
| `POST /v1/presence/connections {}` | `{"connections": number}` |
| `POST /v1/outboxes {"ids": [...]}` | `{"outboxes": {id: {...} or null}}` |
| `POST /v1/outboxes/show {"id", "limit"}` | `{"messages": [{"sequence", "message_id", "at", ...}]}` |
| `POST /v1/outboxes/purge {"id"}` | `{"purged": messages}` |
| `POST /v1/status {"receipt": {...}}` | `{"message_id", "is_settled", "ids": {id: {"state", "dropped"}}}` |

Each may name the `namespace` it is meant for. Written and read here, without any I/O.

A request through a server's HTTP API: `POST /v1/request`, written and read here.

`{"id", "message": {"op", "d", "t"}, "timeout", "namespace"}` is answered with
`{"answer": {"op", "d", "t"}}`, or with an error like those of a dispatch.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from ...errors import InvalidInput, InvalidMessage, InvalidRecipients
from ...messages.envelope import Envelope
from ...messages.message import Message
from ...messages.receipt import OutboxHead, Position, Range, Receipt, Status, Stored
from ...messages.recipients import check_id, check_ids
from ...messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request
from ..base import FIRST, MAX_CURSOR, IdPage
from .dispatch_schema import ReceiptForm, read_message

PRESENCE = "/v1/presence"
PRESENCE_IDS = "/v1/presence/ids"
PRESENCE_CONNECTIONS = "/v1/presence/connections"
OUTBOXES = "/v1/outboxes"
SHOW = "/v1/outboxes/show"
PURGE = "/v1/outboxes/purge"
STATUS = "/v1/status"

MAX_IDS = 10_000
"""Ids that one question may name."""

MAX_SHOWN = 1000
"""Messages of an outbox that one answer may show."""

_Form = TypeVar("_Form")


class IdsQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Asks about ids; about all of them together where `ids` is absent."""

    ids: Any = msgspec.UNSET
    namespace: str | None = None

    @property
    def is_about_all(self) -> bool:
        """Whether it names no ids."""
        return self.ids is msgspec.UNSET

    def checked(self) -> list[str]:
        """The ids, each of which can be one.

        Raises:
            InvalidInput: there are too many, or one is none.
        """
        ids = self.ids
        if self.is_about_all or ids is None or isinstance(ids, dict):
            got = "none" if self.is_about_all else "null" if ids is None else "an object"
            raise InvalidRecipients(f"ids: expected a list of ids, got {got}")
        if isinstance(ids, list) and len(ids) > MAX_IDS:
            raise InvalidInput(f"ids: expected at most {MAX_IDS} at once, got {len(ids)}; ask in parts")
        return check_ids(ids)


class CursorQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Asks for some of the ids that are online; the first of them without a cursor."""

    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)] = FIRST
    namespace: str | None = None


class ConnectionsQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Asks how many connections there are."""

    namespace: str | None = None


class OutboxQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Asks about the outbox of one id, or asks to drop what is in it."""

    id: Any
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHOWN)] = 20
    namespace: str | None = None


class StatusQuestion(msgspec.Struct, forbid_unknown_fields=True):
    """Asks what became of the message that a receipt is for."""

    receipt: ReceiptForm
    namespace: str | None = None


def encode_question(ids: Sequence[str] | None, namespace: str | None) -> bytes:
    """Write a question about ids."""
    return msgspec.json.encode(IdsQuestion(msgspec.UNSET if ids is None else list(ids), namespace))


def decode_ids(body: bytes) -> IdsQuestion:
    """Read a question about ids.

    Raises:
        InvalidInput: it is none.
    """
    return _decoded(body, IdsQuestion, "an object with ids, a list, and if need be namespace")


def encode_cursor(cursor: str, namespace: str | None) -> bytes:
    """Write a question for some of the ids that are online."""
    return msgspec.json.encode(CursorQuestion(cursor, namespace))


def decode_cursor(body: bytes) -> CursorQuestion:
    """Read a question for some of the ids that are online.

    Raises:
        InvalidInput: it is none.
    """
    return _decoded(body, CursorQuestion, "an object, and in it if need be cursor and namespace")


def encode_connections_question(namespace: str | None) -> bytes:
    """Write a question about all connections."""
    return msgspec.json.encode(ConnectionsQuestion(namespace))


def decode_connections_question(body: bytes) -> ConnectionsQuestion:
    """Read a question about all connections.

    Raises:
        InvalidInput: it is none.
    """
    return _decoded(body, ConnectionsQuestion, "an object, and in it if need be namespace")


def encode_outbox_question(id: str, limit: int, namespace: str | None) -> bytes:
    """Write a question about one outbox."""
    return msgspec.json.encode(OutboxQuestion(id, limit, namespace))


def decode_outbox_question(body: bytes) -> OutboxQuestion:
    """Read a question about one outbox.

    Raises:
        InvalidInput: it is none, or is not about an id.
    """
    asked = _decoded(body, OutboxQuestion, "an object with an id, and if need be limit and namespace")
    check_id(asked.id)
    return asked


def decode_receipt(body: bytes) -> tuple[Receipt, str | None]:
    """Read a question about a message; returns its receipt and the namespace that is meant.

    Raises:
        InvalidInput: it is none.
    """
    asked = _decoded(body, StatusQuestion, "an object with a receipt, as a dispatch was answered with")
    return asked.receipt.read(), asked.namespace


def encode_online(online: Mapping[str, int]) -> bytes:
    """Write who is online."""
    return msgspec.json.encode(_Online(dict(online)))


def decode_online(body: bytes) -> dict[str, int] | None:
    """Read who is online; None if a Mesa server did not write it."""
    answer = _read(body, _Online)
    return None if answer is None else answer.online


def encode_count(count: int) -> bytes:
    """Write how many ids are online."""
    return msgspec.json.encode(_Count(count))


def decode_count(body: bytes) -> int | None:
    """Read how many ids are online; None if a Mesa server did not write it."""
    answer = _read(body, _Count)
    return None if answer is None else answer.count


def encode_page(page: IdPage) -> bytes:
    """Write some of the ids that are online."""
    return msgspec.json.encode(_Page(page.ids, page.cursor))


def decode_page(body: bytes) -> IdPage | None:
    """Read some of the ids that are online; None if a Mesa server did not write it."""
    answer = _read(body, _Page)
    return None if answer is None else IdPage(answer.ids, answer.cursor)


def encode_connections(connections: int) -> bytes:
    """Write how many connections there are."""
    return msgspec.json.encode(_Connections(connections))


def decode_connections(body: bytes) -> int | None:
    """Read how many connections there are; None if a Mesa server did not write it."""
    answer = _read(body, _Connections)
    return None if answer is None else answer.connections


def encode_heads(heads: Mapping[str, OutboxHead | None]) -> bytes:
    """Write how far outboxes are."""
    return msgspec.json.encode({"outboxes": {id: head and head._asdict() for id, head in heads.items()}})


def decode_heads(body: bytes) -> dict[str, OutboxHead | None] | None:
    """Read how far outboxes are; None if a Mesa server did not write it."""
    answer = _read(body, _Heads)
    if answer is None:
        return None
    return {id: head.read() if head else None for id, head in answer.outboxes.items()}


def encode_stored(messages: Iterable[Stored]) -> bytes:
    """Write the messages of an outbox."""
    return msgspec.json.encode(_Messages([_Stored(*each[:4], msgspec.Raw(each.body)) for each in messages]))


def decode_stored(body: bytes) -> list[Stored] | None:
    """Read the messages of an outbox; None if a Mesa server did not write it."""
    answer = _read(body, _Messages)
    if answer is None:
        return None
    return [
        Stored(each.sequence, each.message_id, each.at, each.expires, bytes(each.message))
        for each in answer.messages
    ]


def encode_purged(purged: int) -> bytes:
    """Write how many messages were dropped."""
    return msgspec.json.encode(_Purged(purged))


def decode_purged(body: bytes) -> int | None:
    """Read how many messages were dropped; None if a Mesa server did not write it."""
    answer = _read(body, _Purged)
    return None if answer is None else answer.purged


def encode_status(status: Status) -> bytes:
    """Write what became of a message."""
    ids = {id: each._asdict() for id, each in status.ids.items()}
    return msgspec.json.encode({"message_id": status.message_id, "is_settled": status.is_settled, "ids": ids})


class _Online(msgspec.Struct):
    online: dict[str, int]


class _Count(msgspec.Struct):
    count: int


class _Page(msgspec.Struct):
    ids: tuple[str, ...]
    cursor: str | None


class _Connections(msgspec.Struct):
    connections: int


class _Head(msgspec.Struct):
    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...]
    dropped: tuple[Range, ...]

    def read(self) -> OutboxHead:
        return OutboxHead(*msgspec.structs.astuple(self))


class _Stored(msgspec.Struct):
    sequence: int
    message_id: str
    at: float
    expires: float
    message: msgspec.Raw


class _Messages(msgspec.Struct):
    messages: list[_Stored]


class _Purged(msgspec.Struct):
    purged: int


class _Heads(msgspec.Struct):
    outboxes: dict[str, _Head | None]


def _decoded(body: bytes, form: type[_Form], expected: str) -> _Form:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"body: expected {expected}, but: {error}") from None


def _read(body: bytes, form: type[_Form]) -> _Form | None:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


REQUEST = "/v1/request"

_NO_MESSAGE = msgspec.Raw()


class RequestQuestion(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a request.

    Args:
        id: who is asked.
        message: the frame `{"op", "d", "t"}` as the bytes it stands in.
        timeout: seconds to wait for the answer.
        namespace: the namespace that is meant; None for whichever the server serves.
    """

    id: Any
    message: msgspec.Raw = _NO_MESSAGE
    timeout: Any = DEFAULT_REQUEST_TIMEOUT
    namespace: str | None = None

    def prepared(self) -> tuple[Envelope, float]:
        """The request to pass on, and its timeout, after everything was checked.

        Raises:
            InvalidInput: the id, the message or the timeout cannot be used.
        """
        message = read_message(self.message)
        if not isinstance(message, Message):
            raise InvalidMessage("message: expected a message, got an event, which has no answer")
        return prepare_request(self.id, message), check_timeout(self.timeout)


def encode_request_question(request: Envelope, timeout: float, namespace: str | None) -> bytes:
    """Write the body of a request; the message is not encoded again."""
    [id] = request.recipients.ids
    return msgspec.json.encode(RequestQuestion(id, msgspec.Raw(request.body), timeout, namespace))


def decode_request_question(body: bytes) -> RequestQuestion:
    """Read the body of a request.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return _QUESTION.decode(body)
    except _UNREADABLE as error:
        expected = "an object with id and message, and if need be timeout and namespace"
        raise InvalidInput(f"body: expected {expected}, but: {error}") from None


def encode_answer(answer: bytes) -> bytes:
    """Write the answer to a request, of the encoded message."""
    return b'{"answer":%s}' % answer


def decode_answer(body: bytes) -> bytes | None:
    """Read the encoded message that answers a request; None if a Mesa server did not write it."""
    try:
        return bytes(_ANSWER.decode(body).answer)
    except _UNREADABLE:
        return None


class _Answer(msgspec.Struct):
    answer: msgspec.Raw


_QUESTION = msgspec.json.Decoder(RequestQuestion)
_ANSWER = msgspec.json.Decoder(_Answer)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
