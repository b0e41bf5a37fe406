"""Table of the HTTP API's routes, from which the server and both HTTP buses are made.

| request | answer |
|---|---|
| `POST /v1/dispatch {...}` or `{"batch": [...]}` | `{"receipts": [...]}` |
| `POST /v1/request {"id", "message", "timeout"}` | `{"answer": {"op", "d", "t"}}` |
| `POST /v1/status {"receipt": {...}}` | `{"message_id", "is_settled", "ids": {id: {"state", "dropped"}}}` |
| `POST /v1/presence {"ids": [...]}` | `{"online": {id: connections}}` |
| `POST /v1/presence {}` | `{"count": ids that are online}` |
| `POST /v1/presence/ids {"cursor": ""}` | `{"ids": [...], "cursor": of the next page, or null}` |
| `POST /v1/presence/connections {}` | `{"connections": number}` |
| `POST /v1/outboxes {"ids": [...]}` | `{"outboxes": {id: {...} or null}}` |
| `POST /v1/outboxes/show {"id", "limit"}` | `{"messages": [{"sequence", "message_id", "at", ...}]}` |
| `POST /v1/outboxes/purge {"id"}` | `{"purged": messages}` |

Each request may name the `namespace` that it is meant for. A server refuses unknown members of a request; a
dispatcher ignores unknown members of an answer. `problems` has the answers to requests that failed.
"""

from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import astuple as _members

from ...errors import InvalidInput, InvalidMessage, InvalidRecipients
from ...messages.envelope import Envelope
from ...messages.message import Message
from ...messages.receipt import IdStatus, OutboxHead, Position, Range, Receipt, State, Status, Stored
from ...messages.recipients import check_ids
from ...messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request
from ..base import FIRST, MAX_CURSOR, IdPage
from .dispatch_schema import NO_MESSAGE, DispatchRequest, ReceiptForm, Receipts, read_message
from .problems import UNREADABLE

MAX_IDS = 10_000
"""Ids in one request."""

MAX_SHOWN = 1000
"""Messages of an outbox in one answer."""


class Body(Protocol):
    """Body of a request."""

    namespace: str | None


Q = TypeVar("Q", bound=Body)
T = TypeVar("T")


class Route(Generic[Q, T]):
    """One kind of request and its answer.

    Args:
        path: path of the request.
        question: type of the body.
        expected: describes the body for errors.
        answer: type of the answer's body.
        write: turns a result into the answer's body.
        read: turns the answer's body into a result.
    """

    def __init__(
        self,
        path: str,
        question: type[Q],
        expected: str,
        answer: type[Any],
        *,
        write: Callable[[T], object],
        read: Callable[[Any], T],
    ) -> None:
        self.path = path
        self._question = msgspec.json.Decoder(question)
        self._expected = expected
        self._answer = msgspec.json.Decoder(answer)
        self._write = write
        self._read = read

    def encode_question(self, question: Q) -> bytes:
        """Encode the body of a request."""
        return msgspec.json.encode(question)

    def decode_question(self, body: bytes) -> Q:
        """Decode the body of a request.

        Raises:
            InvalidInput: it is no JSON, has another form, or an unknown member.
        """
        try:
            return self._question.decode(body)
        except UNREADABLE as error:
            raise InvalidInput(f"body: expected {self._expected}, but: {error}") from None

    def encode_answer(self, result: T) -> bytes:
        """Encode the body of an answer."""
        return msgspec.json.encode(self._write(result))

    def decode_answer(self, body: bytes) -> T | None:
        """Decode the body of an answer; None if a Mesa server did not write it."""
        try:
            return self._read(self._answer.decode(body))
        except UNREADABLE:
            return None


# Bodies of requests.


class _Form(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    namespace: str | None = None


class EmptyQuestion(_Form):
    """Question without members."""


class IdsQuestion(_Form):
    """Question about ids; about all ids together if `ids` is absent."""

    ids: Any = msgspec.UNSET

    def checked(self) -> list[str]:
        """Return the ids after checking them.

        Raises:
            InvalidInput: there are too many.
            InvalidRecipients: they are no list, or one of them is no id.
        """
        ids = self.ids
        if ids is msgspec.UNSET or ids is None or isinstance(ids, dict):
            got = "none" if ids is msgspec.UNSET else "null" if ids is None else "an object"
            raise InvalidRecipients(f"ids: expected a list of ids, got {got}")
        if isinstance(ids, list) and len(ids) > MAX_IDS:
            raise InvalidInput(f"ids: expected at most {MAX_IDS} at once, got {len(ids)}; ask in parts")
        return check_ids(ids)


class CursorQuestion(_Form):
    """Question for one page of the ids that are online; the first page without a cursor."""

    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)] = FIRST


class OutboxQuestion(_Form):
    """Question about the outbox of one id, or request to purge it."""

    id: Any
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHOWN)] = 20


class StatusQuestion(_Form):
    """Question about the message of a receipt."""

    receipt: ReceiptForm


class RequestQuestion(_Form):
    """Request to a connected client.

    Args:
        id: id of the client.
        message: the encoded frame `{"op", "d", "t"}`.
        timeout: seconds to wait for the answer.
    """

    id: Any
    message: msgspec.Raw = NO_MESSAGE
    timeout: Any = DEFAULT_REQUEST_TIMEOUT

    @classmethod
    def of(cls, request: Envelope, timeout: float, namespace: str | None) -> "RequestQuestion":
        """Return the body that sends a prepared request; the message is not encoded again."""
        [id] = request.recipients.ids
        return cls(id=id, message=msgspec.Raw(request.body), timeout=timeout, namespace=namespace)

    def prepared(self) -> tuple[Envelope, float]:
        """Check all members, and return the request to send and its timeout.

        Raises:
            InvalidInput: the id, the message or the timeout cannot be used.
        """
        message = read_message(self.message)
        if not isinstance(message, Message):
            raise InvalidMessage("message: expected a message, got an event, which has no answer")
        return prepare_request(self.id, message), check_timeout(self.timeout)


# Bodies of answers.


class _ReplyBody(msgspec.Struct):
    answer: msgspec.Raw


class _IdStatusBody(msgspec.Struct):
    state: State
    dropped: tuple[Range, ...]


class _StatusBody(msgspec.Struct):
    message_id: str
    is_settled: bool
    ids: dict[str, _IdStatusBody]


class _OnlineBody(msgspec.Struct):
    online: dict[str, int]


class _CountBody(msgspec.Struct):
    count: int


class _PageBody(msgspec.Struct):
    ids: tuple[str, ...]
    cursor: str | None


class _ConnectionsBody(msgspec.Struct):
    connections: int


class _HeadBody(msgspec.Struct):
    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...]
    dropped: tuple[Range, ...]


class _HeadsBody(msgspec.Struct):
    outboxes: dict[str, _HeadBody | None]


class _StoredBody(msgspec.Struct):
    sequence: int
    message_id: str
    at: float
    expires: float
    message: msgspec.Raw


class _MessagesBody(msgspec.Struct):
    messages: list[_StoredBody]


class _PurgedBody(msgspec.Struct):
    purged: int


def _status(status: Status) -> _StatusBody:
    ids = {id: _IdStatusBody(*each) for id, each in status.ids.items()}
    return _StatusBody(status.message_id, status.is_settled, ids)


def _read_status(answer: _StatusBody) -> Status:
    return Status(answer.message_id, {id: IdStatus(*_members(each)) for id, each in answer.ids.items()})


def _heads(heads: Mapping[str, OutboxHead | None]) -> _HeadsBody:
    return _HeadsBody({id: head and _HeadBody(*head) for id, head in heads.items()})


def _read_heads(answer: _HeadsBody) -> dict[str, OutboxHead | None]:
    return {id: OutboxHead(*_members(head)) if head else None for id, head in answer.outboxes.items()}


def _messages(messages: Iterable[Stored]) -> _MessagesBody:
    return _MessagesBody([_StoredBody(*each[:4], msgspec.Raw(each.body)) for each in messages])


def _read_messages(answer: _MessagesBody) -> list[Stored]:
    return [
        Stored(each.sequence, each.message_id, each.at, each.expires, bytes(each.message))
        for each in answer.messages
    ]


# The table.

_NAMESPACE = "if need be namespace"

DISPATCH: Route[DispatchRequest, list[Receipt]] = Route(
    "/v1/dispatch",
    DispatchRequest,
    "a JSON object with the members message, recipients, excluding, sync, idempotency_key, durability and "
    f"id, or batch, and {_NAMESPACE}",
    Receipts,
    write=Receipts.of,
    read=Receipts.all,
)
REQUEST: Route[RequestQuestion, bytes] = Route(
    "/v1/request",
    RequestQuestion,
    "an object with id and message, and if need be timeout and namespace",
    _ReplyBody,
    write=lambda answer: _ReplyBody(msgspec.Raw(answer)),
    read=lambda reply: bytes(reply.answer),
)
STATUS: Route[StatusQuestion, Status] = Route(
    "/v1/status",
    StatusQuestion,
    "an object with a receipt, as a dispatch was answered with",
    _StatusBody,
    write=_status,
    read=_read_status,
)
ONLINE: Route[IdsQuestion, dict[str, int]] = Route(
    "/v1/presence",
    IdsQuestion,
    f"an object with ids, a list, and {_NAMESPACE}",
    _OnlineBody,
    write=_OnlineBody,
    read=attrgetter("online"),
)
COUNT: Route[IdsQuestion, int] = Route(
    ONLINE.path,
    IdsQuestion,
    f"an object, and in it {_NAMESPACE}",
    _CountBody,
    write=_CountBody,
    read=attrgetter("count"),
)
IDS: Route[CursorQuestion, IdPage] = Route(
    "/v1/presence/ids",
    CursorQuestion,
    "an object, and in it if need be cursor and namespace",
    _PageBody,
    write=lambda page: _PageBody(*page),
    read=lambda page: IdPage(page.ids, page.cursor),
)
CONNECTIONS: Route[EmptyQuestion, int] = Route(
    "/v1/presence/connections",
    EmptyQuestion,
    f"an object, and in it {_NAMESPACE}",
    _ConnectionsBody,
    write=_ConnectionsBody,
    read=attrgetter("connections"),
)
HEADS: Route[IdsQuestion, dict[str, OutboxHead | None]] = Route(
    "/v1/outboxes",
    IdsQuestion,
    f"an object with ids, a list, and {_NAMESPACE}",
    _HeadsBody,
    write=_heads,
    read=_read_heads,
)
SHOW: Route[OutboxQuestion, list[Stored]] = Route(
    "/v1/outboxes/show",
    OutboxQuestion,
    "an object with an id, and if need be limit and namespace",
    _MessagesBody,
    write=_messages,
    read=_read_messages,
)
PURGE: Route[OutboxQuestion, int] = Route(
    "/v1/outboxes/purge",
    OutboxQuestion,
    f"an object with an id, and {_NAMESPACE}",
    _PurgedBody,
    write=_PurgedBody,
    read=attrgetter("purged"),
)
