"""Table of the HTTP API's routes, from which the server and both HTTP buses are made.

`docs/reference/http-api.md` shows the bodies. Each request may name the `namespace` that it is meant for. A
server refuses unknown members of a request; a dispatcher ignores unknown members of an answer. `problems` has
the answers to requests that failed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import astuple as _members

from ...close import CloseCode
from ...errors import InvalidInput, InvalidMessage, InvalidRecipients
from ...messages.envelope import Envelope
from ...messages.message import Message
from ...messages.order import Order, OrderStatus, prepare_order
from ...messages.receipt import (
    Delivery,
    DeliveryState,
    IdStatus,
    OutboxHead,
    Position,
    Range,
    Receipt,
    Status,
    Stored,
)
from ...messages.request import DEFAULT_REQUEST_TIMEOUT, check_timeout, prepare_request
from ..orders import prepare_revocation
from ..queries import (
    FIRST,
    MAX_CURSOR,
    CarriedOut,
    ConnectionCount,
    Heads,
    IdPage,
    Online,
    OnlineCount,
    OnlineIds,
    Peek,
    Query,
)
from .dispatch_schema import (
    NO_MESSAGE,
    DispatchRequest,
    MessageId,
    ReceiptForm,
    given_ids,
    named,
    read_message,
)
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


@dataclass(frozen=True, eq=False)
class Route(Generic[B, T]):
    """One kind of request and its answer.

    Args:
        path: path of the request.
        body: type of its body.
        expected: describes the body for errors.
        answer: type of the answer's body.
        write: turns a result into the answer's body; by default the result is its only member.
        read: turns the answer's body into a result; by default the result is its only member.
    """

    path: str
    body: type[B]
    expected: str
    answer: type[msgspec.Struct]
    write: Callable[[T], object] | None = None
    read: Callable[[Any], T] | None = None

    def encode_body(self, body: B) -> bytes:
        """Encode the body of a request."""
        return msgspec.json.encode(body)

    def decode_body(self, body: bytes) -> B:
        """Decode the body of a request.

        Raises:
            InvalidInput: it is no JSON, has another form, or an unknown member.
        """
        try:
            return msgspec.json.decode(body, type=self.body)
        except UNREADABLE as error:
            raise InvalidInput(f"body: expected {self.expected}, but: {error}") from None

    def encode_answer(self, result: T) -> bytes:
        """Encode the body of an answer."""
        return msgspec.json.encode((self.write or self.answer)(result))

    def decode_answer(self, body: bytes) -> T | None:
        """Decode the body of an answer; None if a Mesa server did not write it."""
        try:
            answer = msgspec.json.decode(body, type=self.answer)
        except UNREADABLE:
            return None
        return self.read(answer) if self.read else next(iter(_members(answer)))


@dataclass(frozen=True, eq=False, kw_only=True)
class QueryRoute(Route[B, T]):
    """A route whose result is the answer to a query.

    Args:
        query: makes the query from the body; refuses what cannot be one with `InvalidInput`.
    """

    query: Callable[[B], Query[Any]]


# Bodies of requests.


class _Form(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    namespace: str | None = None


class EmptyBody(_Form):
    """Body without members."""


class IdsBody(_Form):
    """Query about ids; about all ids together if `ids` is absent."""

    ids: Any = msgspec.UNSET


class CursorBody(_Form):
    """Query for one page of the ids that are online; the first page without a cursor."""

    cursor: Annotated[str, msgspec.Meta(max_length=MAX_CURSOR)] = FIRST


class OutboxBody(_Form):
    """Query about the outbox of one id, or request to purge it."""

    id: Any
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_SHOWN)] = 20


class StatusBody(_Form):
    """Query about the message of a receipt."""

    receipt: ReceiptForm


class RequestBody(_Form):
    """Request to a connected client; `message` is the encoded frame."""

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


class OrderBody(_Form):
    """Order to end connections of ids; `issued_before` is for `/v1/revoke` alone, and then now by default.

    A dispatcher sends the `id` of its order, so that a repetition is known.
    """

    ids: Any
    code: Any = msgspec.UNSET
    reason: Any = ""
    issued_before: Any = None
    idempotency_key: str | None = None
    id: MessageId | None = None

    @classmethod
    def of(cls, envelope: Envelope, namespace: str | None) -> "OrderBody":
        """Return the body that gives a prepared order."""
        order = Order.read(envelope.body)
        assert order is not None  # noqa: S101 - the envelope is of its kind
        ids, code, reason, before, _ = msgspec.structs.astuple(order)
        return cls(ids, code, reason, before, id=envelope.message_id, namespace=namespace)

    def prepared(self, *, revokes: bool) -> Envelope:
        """Check all members, and return the order to give.

        Raises:
            InvalidInput: one of them cannot be used.
        """
        if not revokes and self.issued_before is not None:
            raise InvalidInput("issued_before: expected none to disconnect, got one; POST /v1/revoke revokes")
        code, ids = self.code, given_ids("ids", self.ids, ())
        if code is msgspec.UNSET:
            code = CloseCode.REFUSED if revokes else CloseCode.NORMAL
        if revokes:
            order = prepare_revocation(ids, code, self.reason, self.issued_before)
        else:
            order = prepare_order(ids, code, self.reason)
        return named(order.envelope(self.idempotency_key), self.id, self.idempotency_key)


class PositionBody(_Form):
    """Query about an order at a position."""

    position: Position


# Bodies of answers.


class _IdStatusBody(msgspec.Struct):
    state: DeliveryState
    dropped: tuple[Range, ...]


class _StatusAnswer(msgspec.Struct):
    message_id: str
    is_settled: bool
    ids: dict[str, _IdStatusBody]


class _OrderAnswer(msgspec.Struct):
    message_id: str
    position: Position
    done: tuple[str, ...]
    pending: tuple[str, ...]

    def receipt(self) -> Receipt:
        """Return the receipt of the dispatch of the order."""
        delivery = Delivery(True, 0, None, self.position)
        return Receipt(self.message_id, {"*": delivery}, len(self.done) + len(self.pending))


class _ProgressAnswer(msgspec.Struct):
    done: tuple[str, ...]
    pending: tuple[str, ...]


class _OnlineIdsAnswer(msgspec.Struct):
    ids: tuple[str, ...]
    cursor: str | None


class _HeadBody(msgspec.Struct):
    epoch: str
    top: int
    acknowledged: int
    length: int
    forks: tuple[Position, ...]
    dropped: tuple[Range, ...]


class _StoredBody(msgspec.Struct):
    sequence: int
    message_id: str
    at: float
    expires: float
    message: msgspec.Raw


def _answer(member: str, form: Any) -> type[msgspec.Struct]:
    """Return the type of an answer with one member."""
    return msgspec.defstruct("Answer", [(member, form)])


def _listed(body: IdsBody) -> Any:
    """Return the ids of a body if they may be a list that is not too long."""
    ids = body.ids
    if ids is msgspec.UNSET or ids is None or isinstance(ids, dict):
        got = "none" if ids is msgspec.UNSET else "null" if ids is None else "an object"
        raise InvalidRecipients(f"ids: expected a list of ids, got {got}")
    if isinstance(ids, list) and len(ids) > MAX_IDS:
        raise InvalidInput(f"ids: expected at most {MAX_IDS} at once, got {len(ids)}; ask in parts")
    return ids


def _presence(body: IdsBody) -> Online | OnlineCount:
    return OnlineCount() if body.ids is msgspec.UNSET else Online(_listed(body))


def _status(status: Status) -> _StatusAnswer:
    ids = {id: _IdStatusBody(*each) for id, each in status.ids.items()}
    return _StatusAnswer(status.message_id, status.is_settled, ids)


def _read_status(answer: _StatusAnswer) -> Status:
    return Status(answer.message_id, {id: IdStatus(*_members(each)) for id, each in answer.ids.items()})


def _heads(heads: Mapping[str, OutboxHead | None]) -> object:
    return {"outboxes": {id: head and _HeadBody(*head) for id, head in heads.items()}}


def _read_heads(answer: Any) -> dict[str, OutboxHead | None]:
    return {id: OutboxHead(*_members(head)) if head else None for id, head in answer.outboxes.items()}


def _messages(messages: Iterable[Stored]) -> object:
    return {"messages": [_StoredBody(*each[:4], msgspec.Raw(each.body)) for each in messages]}


def _read_messages(answer: Any) -> list[Stored]:
    return [
        Stored(each.sequence, each.message_id, each.at, each.expires, bytes(each.message))
        for each in answer.messages
    ]


# The table.

_NAMESPACE = "if need be namespace"
_IDS = f"an object with ids, a list, and {_NAMESPACE}"

DISPATCH: Route[DispatchRequest, list[Receipt]] = Route(
    "/v1/dispatch",
    DispatchRequest,
    "a JSON object with the members message, recipients, excluding, sync, idempotency_key, durability, "
    f"delivery and id, or batch, and {_NAMESPACE}",
    _answer("receipts", list[ReceiptForm]),
    lambda receipts: {"receipts": [ReceiptForm.of(each) for each in receipts]},
    lambda answer: [each.receipt() for each in answer.receipts],
)
REQUEST: Route[RequestBody, bytes] = Route(
    "/v1/request",
    RequestBody,
    "an object with id and message, and if need be timeout and namespace",
    _answer("answer", msgspec.Raw),
    lambda answer: {"answer": msgspec.Raw(answer)},
    lambda answer: bytes(answer.answer),
)


def _order_route(path: str, more: str) -> Route[OrderBody, Any]:
    return Route(
        path,
        OrderBody,
        f"an object with ids, a list, and if need be code, reason, idempotency_key, id{more} "
        f"and {_NAMESPACE}",
        _OrderAnswer,
        lambda receipt: _OrderAnswer(*receipt),
        _OrderAnswer.receipt,
    )


DISCONNECT = _order_route("/v1/disconnect", "")
REVOKE = _order_route("/v1/revoke", ", issued_before")
STATUS: Route[StatusBody, Status] = Route(
    "/v1/status",
    StatusBody,
    "an object with a receipt, as a dispatch was answered with",
    _StatusAnswer,
    _status,
    _read_status,
)
PURGE: Route[OutboxBody, int] = Route(
    "/v1/outboxes/purge", OutboxBody, f"an object with an id, and {_NAMESPACE}", _answer("purged", int)
)

QUERIES: Mapping[type[Query[Any]], QueryRoute[Any, Any]] = {
    Online: QueryRoute("/v1/presence", IdsBody, _IDS, _answer("online", dict[str, int]), query=_presence),
    OnlineCount: QueryRoute("/v1/presence", IdsBody, _IDS, _answer("count", int), query=_presence),
    OnlineIds: QueryRoute(
        "/v1/presence/ids",
        CursorBody,
        "an object, and in it if need be cursor and namespace",
        _OnlineIdsAnswer,
        lambda page: _OnlineIdsAnswer(*page),
        lambda answer: IdPage(answer.ids, answer.cursor),
        query=lambda body: OnlineIds(body.cursor),
    ),
    ConnectionCount: QueryRoute(
        "/v1/presence/connections",
        EmptyBody,
        f"an object, and in it {_NAMESPACE}",
        _answer("connections", int),
        query=lambda body: ConnectionCount(),
    ),
    CarriedOut: QueryRoute(
        "/v1/orders",
        PositionBody,
        f"an object with the position of an order, and {_NAMESPACE}",
        _ProgressAnswer,
        lambda progress: _ProgressAnswer(*progress),
        lambda answer: OrderStatus(answer.done, answer.pending),
        query=lambda body: CarriedOut(body.position),
    ),
    Heads: QueryRoute(
        "/v1/outboxes",
        IdsBody,
        _IDS,
        _answer("outboxes", dict[str, _HeadBody | None]),
        _heads,
        _read_heads,
        query=lambda body: Heads(_listed(body)),
    ),
    Peek: QueryRoute(
        "/v1/outboxes/show",
        OutboxBody,
        "an object with an id, and if need be limit and namespace",
        _answer("messages", list[_StoredBody]),
        _messages,
        _read_messages,
        query=lambda body: Peek(body.id, body.limit),
    ),
}
"""The route of each query; two of them share a path."""
