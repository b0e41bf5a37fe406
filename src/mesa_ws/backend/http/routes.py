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
from ...messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request
from ..queries import (
    FIRST,
    MAX_CURSOR,
    ConnectionCount,
    Heads,
    IdPage,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
)
from .dispatch_schema import NO_MESSAGE, DispatchRequest, ReceiptForm, Receipts, read_message
from .problems import UNREADABLE

MAX_IDS = 10_000
"""Ids in one request."""

MAX_SHOWN = 1000
"""Messages of an outbox in one answer."""


class Body(Protocol):
    """Body of a request."""

    namespace: str | None


B = TypeVar("B", bound=Body)
T = TypeVar("T")


class Route(Generic[B, T]):
    """One kind of request and its answer.

    Args:
        path: path of the request.
        body: type of its body.
        expected: describes the body for errors.
        answer: type of the answer's body.
        write: turns a result into the answer's body; by default the result is its only member.
        read: turns the answer's body into a result; by default the result is its only member.

    Attributes:
        body: type of the body of a request.
    """

    def __init__(
        self,
        path: str,
        body: type[B],
        expected: str,
        answer: type[msgspec.Struct],
        *,
        write: Callable[[T], object] | None = None,
        read: Callable[[Any], T] | None = None,
    ) -> None:
        self.path = path
        self.body = body
        self._body = msgspec.json.Decoder(body)
        self._expected = expected
        self._answer = msgspec.json.Decoder(answer)
        self._write = write or answer
        self._read = read or attrgetter(answer.__struct_fields__[0])

    def encode_body(self, body: B) -> bytes:
        """Encode the body of a request."""
        return msgspec.json.encode(body)

    def decode_body(self, body: bytes) -> B:
        """Decode the body of a request.

        Raises:
            InvalidInput: it is no JSON, has another form, or an unknown member.
        """
        try:
            return self._body.decode(body)
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


class QueryBody(_Form):
    """Body of a query, whose members are those of the query."""

    def query(self) -> Query[Any]:
        """Check the members, and return the query.

        Raises:
            InvalidInput: a member cannot be used.
        """
        raise NotImplementedError


class PresenceBody(QueryBody):
    """Query about the connections of ids; about the number of all ids that are online without `ids`."""

    ids: Any = msgspec.UNSET

    def query(self) -> Online | OnlineCount:  # noqa: D102
        return OnlineCount() if self.ids is msgspec.UNSET else Online(_listed(self.ids))


class OnlineIdsBody(QueryBody):
    """Query for one page of the ids that are online; the first page without a cursor."""

    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)] = FIRST

    def query(self) -> OnlineIds:  # noqa: D102
        return OnlineIds(self.cursor)


class ConnectionCountBody(QueryBody):
    """Query without members for the number of connections."""

    def query(self) -> ConnectionCount:  # noqa: D102
        return ConnectionCount()


class HeadsBody(QueryBody):
    """Query about outboxes."""

    ids: Any = msgspec.UNSET

    def query(self) -> Heads:  # noqa: D102
        return Heads(_listed(self.ids))


class OutboxBody(QueryBody):
    """Query for the messages of one outbox, or request to purge it."""

    id: Any
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHOWN)] = 20

    def query(self) -> Peek:  # noqa: D102
        return Peek(self.id, self.limit)


def _listed(ids: Any) -> Any:
    """Return `ids` if they may be a list of ids that is not too long."""
    if ids is msgspec.UNSET or ids is None or isinstance(ids, dict):
        got = "none" if ids is msgspec.UNSET else "null" if ids is None else "an object"
        raise InvalidRecipients(f"ids: expected a list of ids, got {got}")
    if isinstance(ids, list) and len(ids) > MAX_IDS:
        raise InvalidInput(f"ids: expected at most {MAX_IDS} at once, got {len(ids)}; ask in parts")
    return ids


class StatusBody(_Form):
    """Query about the message of a receipt."""

    receipt: ReceiptForm


class RequestBody(_Form):
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
    def of(cls, request: Envelope, timeout: float, namespace: str | None) -> "RequestBody":
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


class _RequestAnswer(msgspec.Struct):
    answer: msgspec.Raw


class _IdStatusBody(msgspec.Struct):
    state: State
    dropped: tuple[Range, ...]


class _StatusAnswer(msgspec.Struct):
    message_id: str
    is_settled: bool
    ids: dict[str, _IdStatusBody]


class _OnlineAnswer(msgspec.Struct):
    online: dict[str, int]


class _OnlineCountAnswer(msgspec.Struct):
    count: int


class _OnlineIdsAnswer(msgspec.Struct):
    ids: tuple[str, ...]
    cursor: str | None


class _ConnectionCountAnswer(msgspec.Struct):
    connections: int


class _HeadBody(msgspec.Struct):
    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...]
    dropped: tuple[Range, ...]


class _HeadsAnswer(msgspec.Struct):
    outboxes: dict[str, _HeadBody | None]


class _StoredBody(msgspec.Struct):
    sequence: int
    message_id: str
    at: float
    expires: float
    message: msgspec.Raw


class _PeekAnswer(msgspec.Struct):
    messages: list[_StoredBody]


class _PurgeAnswer(msgspec.Struct):
    purged: int


def _status(status: Status) -> _StatusAnswer:
    ids = {id: _IdStatusBody(*each) for id, each in status.ids.items()}
    return _StatusAnswer(status.message_id, status.is_settled, ids)


def _read_status(answer: _StatusAnswer) -> Status:
    return Status(answer.message_id, {id: IdStatus(*_members(each)) for id, each in answer.ids.items()})


def _heads(heads: Mapping[str, OutboxHead | None]) -> _HeadsAnswer:
    return _HeadsAnswer({id: head and _HeadBody(*head) for id, head in heads.items()})


def _read_heads(answer: _HeadsAnswer) -> dict[str, OutboxHead | None]:
    return {id: OutboxHead(*_members(head)) if head else None for id, head in answer.outboxes.items()}


def _messages(messages: Iterable[Stored]) -> _PeekAnswer:
    return _PeekAnswer([_StoredBody(*each[:4], msgspec.Raw(each.body)) for each in messages])


def _read_messages(answer: _PeekAnswer) -> list[Stored]:
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
REQUEST: Route[RequestBody, bytes] = Route(
    "/v1/request",
    RequestBody,
    "an object with id and message, and if need be timeout and namespace",
    _RequestAnswer,
    write=lambda answer: _RequestAnswer(msgspec.Raw(answer)),
    read=lambda answer: bytes(answer.answer),
)
STATUS: Route[StatusBody, Status] = Route(
    "/v1/status",
    StatusBody,
    "an object with a receipt, as a dispatch was answered with",
    _StatusAnswer,
    write=_status,
    read=_read_status,
)
PURGE: Route[OutboxBody, int] = Route(
    "/v1/outboxes/purge", OutboxBody, f"an object with an id, and {_NAMESPACE}", _PurgeAnswer
)

QUERIES: Mapping[type[Query[Any]], Route[Any, Any]] = {
    Online: Route(
        "/v1/presence", PresenceBody, f"an object with ids, a list, and {_NAMESPACE}", _OnlineAnswer
    ),
    OnlineCount: Route(
        "/v1/presence", PresenceBody, f"an object with ids, a list, and {_NAMESPACE}", _OnlineCountAnswer
    ),
    OnlineIds: Route(
        "/v1/presence/ids",
        OnlineIdsBody,
        "an object, and in it if need be cursor and namespace",
        _OnlineIdsAnswer,
        write=lambda page: _OnlineIdsAnswer(*page),
        read=lambda answer: IdPage(answer.ids, answer.cursor),
    ),
    ConnectionCount: Route(
        "/v1/presence/connections",
        ConnectionCountBody,
        f"an object, and in it {_NAMESPACE}",
        _ConnectionCountAnswer,
    ),
    Heads: Route(
        "/v1/outboxes",
        HeadsBody,
        f"an object with ids, a list, and {_NAMESPACE}",
        _HeadsAnswer,
        write=_heads,
        read=_read_heads,
    ),
    Peek: Route(
        "/v1/outboxes/show",
        OutboxBody,
        "an object with an id, and if need be limit and namespace",
        _PeekAnswer,
        write=_messages,
        read=_read_messages,
    ),
}
"""The route of each query; two of them share a path."""
