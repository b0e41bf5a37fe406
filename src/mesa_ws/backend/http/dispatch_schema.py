"""What a dispatcher asks of a server's HTTP API: the body of a request, written and read here.

A request is one dispatch, `{"message": {"op", "d", "t"}, "recipients", "excluding", "sync",
"idempotency_key", "durability", "id"}`, or several in order, `{"batch": [...]}`, and may name the
`namespace` it is meant for. A member that is not known is refused, so that a typing error never
widens the recipients.

What a server's HTTP API answers a dispatcher: receipts, or one error; written and read here.

`{"receipts": [{"message_id", "deliveries": {id: {"stored", "online", "dropped", "position",
"displaced"}}, "nodes"}]}`, one receipt for each message in the order of the request, or
`{"error": {"code", "message", "maybe_sent"}}`. A reader passes over members it does not know.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import msgspec

from ...errors import (
    BackendError,
    BackendRefused,
    BackendUnavailable,
    ConnectionClosed,
    InvalidInput,
    InvalidMessage,
    InvalidRecipients,
    MesaError,
    NotConnected,
    RequestFailed,
    TimedOut,
    TooManyRequests,
    Unanswered,
    Unsupported,
)
from ...messages.envelope import REMEMBERED_KEY, Envelope, Retention, prepare
from ...messages.message import DISCONNECT_CLIENT, PROTOCOL_OPCODES, DispatchEvent, Message, Op
from ...messages.receipt import Delivery, Position, Receipt
from ...messages.recipients import EVERYBODY
from ...settings import Sync

PATH = "/v1/dispatch"
"""Where a server takes dispatches."""

MAX_BATCH = 1000
"""Messages that one request may carry."""

_MessageId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fk][0-9a-f]{31}\Z")]
_NO_MESSAGE = msgspec.Raw()
_DISCONNECT = msgspec.Raw(f'{{"op":{Op.EVENT},"t":"{DISCONNECT_CLIENT}"}}')


class Dispatch(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One message on its way to a server.

    Args:
        message: the frame `{"op", "d", "t"}` as the bytes it stands in.
        recipients: ids, or `"*"`; everybody if absent.
        excluding: ids that shall not receive it; nobody if absent.
        sync: whether it is stored: true, false, or an object of `max_messages`, `max_bytes` and
            `ttl`; false if absent.
        idempotency_key: the sender's own name for the message.
        durability: what it has to reach; memory if absent.
        id: 32 lower-case hexadecimal digits that name the dispatch; random if absent. A dispatcher
            that was given a key sends what it made of that, which begins with a k.
    """

    message: msgspec.Raw = _NO_MESSAGE
    recipients: Any = msgspec.UNSET
    excluding: Any = msgspec.UNSET
    sync: Any = False
    idempotency_key: str | None = None
    durability: Any = "memory"
    id: _MessageId | None = None

    @classmethod
    def of(cls, envelope: Envelope) -> Self:
        """The dispatch that makes a server send `envelope`; the body is not encoded again."""
        everybody, ids, excluding = envelope.recipients
        message = _DISCONNECT if envelope.kind == "disconnect" else msgspec.Raw(envelope.body)
        without = tuple(excluding) if excluding else msgspec.UNSET
        return cls(
            message,
            EVERYBODY if everybody else ids,
            without,
            envelope.retention._asdict() if envelope.retention else False,
            durability=envelope.durability,
            id=envelope.message_id,
        )

    def envelope(self, reserved: Container[int] = PROTOCOL_OPCODES) -> Envelope:
        """The envelope to send, after everything in it was checked.

        Args:
            reserved: opcodes that belong to the protocol of the server's wire.

        Raises:
            InvalidMessage: the message is absent, or is none.
            InvalidRecipients: ids or exclusions that name nobody, or an event without recipients.
            InvalidInput: how it is stored cannot be, or two names for one message.
        """
        envelope = prepare(
            read_message(self.message),
            _ids("recipients", self.recipients, EVERYBODY),
            _ids("excluding", self.excluding, ()),
            retention=_retention(self.sync),
            idempotency_key=self.idempotency_key,
            durability=self.durability,
            reserved=reserved,
        )
        if self.id is None:
            return envelope
        if self.idempotency_key is not None:
            raise InvalidInput("id: expected none beside an idempotency_key, got both; leave out the id")
        remember = REMEMBERED_KEY if self.id.startswith("k") else envelope.remember
        return envelope._replace(message_id=self.id, remember=remember)


class DispatchRequest(Dispatch, forbid_unknown_fields=True, omit_defaults=True):
    """The body of a request: one dispatch, or a batch of them.

    Args:
        batch: dispatches in order, instead of the one.
        namespace: the namespace that the sender means; None for whichever the server serves.
    """

    batch: list[Dispatch] | None = None
    namespace: str | None = None

    def envelopes(self, reserved: Container[int] = PROTOCOL_OPCODES) -> list[Envelope]:
        """The envelopes in order, all of them checked.

        Args:
            reserved: opcodes that belong to the protocol of the server's wire.

        Raises:
            InvalidInput: what is wrong first; in a batch it names the place.
        """
        if self.batch is None:
            return [self.envelope(reserved)]
        if self != DispatchRequest(batch=self.batch, namespace=self.namespace):
            raise InvalidInput(
                "batch: expected it instead of a message, got both; move the message into the batch"
            )
        if not 0 < len(self.batch) <= MAX_BATCH:
            raise InvalidInput(f"batch: expected 1 to {MAX_BATCH} dispatches, got {len(self.batch)}")
        return [_envelope_at(index, dispatch, reserved) for index, dispatch in enumerate(self.batch)]


def encode_request(envelopes: Sequence[Envelope], namespace: str | None = None) -> bytes:
    """Write the body of a request for `envelopes`.

    Args:
        envelopes: at most `MAX_BATCH`.
        namespace: the namespace that the server has to serve; None for any.

    Raises:
        InvalidInput: there are more.
    """
    if len(envelopes) > MAX_BATCH:
        raise InvalidInput(
            f"messages: expected at most {MAX_BATCH} at once over HTTP, got {len(envelopes)}; "
            "send them in parts"
        )
    batch = [Dispatch.of(envelope) for envelope in envelopes]
    return msgspec.json.encode(DispatchRequest(batch=batch, namespace=namespace))


def decode_request(body: bytes) -> DispatchRequest:
    """Read the body of a request; its dispatches are checked when their envelopes are made.

    Raises:
        InvalidInput: not JSON, not of this form, or with a member that is not known.
    """
    try:
        return _REQUEST.decode(body)
    except _UNREADABLE as error:
        raise InvalidInput(f"body: expected {_REQUEST_FORM}, but: {error}") from None


class _Frame(msgspec.Struct, forbid_unknown_fields=True):
    op: int = Op.DISPATCH.value
    d: Any = None
    t: str | None = None


def read_message(raw: msgspec.Raw) -> Message | DispatchEvent:
    """Read the message of a body, or the event in its place.

    Raises:
        InvalidMessage: it is neither.
    """
    if raw == _NO_MESSAGE:
        raise InvalidMessage(f"message: expected {_FRAME_FORM}, got none")
    try:
        frame = _FRAME.decode(raw)
    except _UNREADABLE as error:
        raise InvalidMessage(f"message: expected {_FRAME_FORM}, but: {error}") from None
    if frame.op != Op.EVENT:
        return Message(frame.op, frame.d, frame.t)
    if frame.d not in (None, {}):
        raise InvalidMessage("message: expected no d in an event, got one; leave it out")
    return DispatchEvent(frame.t)  # type: ignore[arg-type]  # None is refused like any other


def _retention(given: object) -> Retention | None:
    if isinstance(given, bool):
        return Retention.of(Sync(enabled=given))
    if not isinstance(given, dict) or not set(given) <= set(Retention._fields):
        raise InvalidInput(
            f"sync: expected true, false or an object of {', '.join(Retention._fields)}, "
            f"got {'another object' if isinstance(given, dict) else type(given).__name__}"
        )
    return Retention.of(Sync.of({"enabled": True, **given}))


def _ids(where: str, given: Any, default: Sequence[str]) -> Any:
    if given is msgspec.UNSET:
        return default
    if given is None or isinstance(given, dict):
        raise InvalidRecipients(
            f"{where}: expected a list of ids, got {'null' if given is None else 'an object'}"
        )
    if isinstance(given, list) and any(isinstance(id, list | dict) for id in given):
        raise InvalidRecipients(f"{where}: expected a list of ids as text, got lists or objects in it")
    return given


def _envelope_at(index: int, dispatch: Dispatch, reserved: Container[int]) -> Envelope:
    try:
        return dispatch.envelope(reserved)
    except InvalidInput as error:
        raise type(error)(f"batch[{index}]: {error}") from None


_REQUEST = msgspec.json.Decoder(DispatchRequest)
_FRAME = msgspec.json.Decoder(_Frame)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_REQUEST_FORM = (
    "a JSON object with the members message, recipients, excluding, sync, idempotency_key, durability and "
    "id, or batch, and if need be namespace"
)
_FRAME_FORM = 'an object such as {"op": 0, "d": {"any": "data"}, "t": "TYPE"}'


class Problem(msgspec.Struct, frozen=True):
    """What kept a request from being answered with receipts.

    Args:
        code: a name that programs may rely on.
        message: what was expected, what came, what to do.
        maybe_sent: whether a message may have been sent all the same.
        reason: the code of the error that a request was answered with; absent in all else.
    """

    code: str
    message: str
    maybe_sent: bool = False
    reason: str | msgspec.UnsetType = msgspec.UNSET


class ErrorForm(NamedTuple):
    """How one of our errors looks over HTTP: its status (RFC 9110 section 15) and its code."""

    error: type[MesaError]
    status: int
    code: str


ERROR_FORMS = (
    ErrorForm(InvalidMessage, 400, "invalid_message"),
    ErrorForm(InvalidRecipients, 400, "invalid_recipients"),
    ErrorForm(InvalidInput, 400, "invalid_request"),
    ErrorForm(NotConnected, 409, "not_connected"),
    ErrorForm(TooManyRequests, 429, "too_many_requests"),
    ErrorForm(Unsupported, 501, "unsupported"),
    ErrorForm(Unanswered, 502, "unanswered"),
    ErrorForm(RequestFailed, 502, "request_failed"),
    ErrorForm(ConnectionClosed, 502, "connection_closed"),
    ErrorForm(TimedOut, 504, "timed_out"),
    ErrorForm(BackendRefused, 502, "backend_refused"),
    ErrorForm(BackendUnavailable, 503, "backend_unavailable"),
)
"""The errors of a dispatch and of a request, special ones before general ones."""

_LONGEST_TEXT = 1000

_Form = TypeVar("_Form")

INTERNAL_ERROR = "internal_error"
"""Code of a defect of the server; what became of the message is not known."""


def problem_of(error: MesaError) -> tuple[int, Problem] | None:
    """The status and the problem that tell `error`, or None if nothing that is asked raises such an error."""
    for form in ERROR_FORMS:
        if isinstance(error, form.error):
            text, maybe_sent = _told(error)
            reason = error.code if isinstance(error, RequestFailed) else msgspec.UNSET
            return form.status, Problem(form.code, shortened(text), maybe_sent, reason)
    return None


def shortened(text: str) -> str:
    """`text` for an answer: what a client sent is not sent back to it at any length."""
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]} ..."


def error_of(problem: Problem) -> MesaError:
    """The error that `problem` tells; a refusal where there is none of its own."""
    if problem.code == INTERNAL_ERROR:
        return BackendUnavailable(problem.message, maybe_sent=problem.maybe_sent)
    match problem.code:
        case "unanswered":
            return Unanswered(text=problem.message)
        case "request_failed":
            return RequestFailed(problem.reason or "failed", problem.message)
        case "connection_closed":
            return ConnectionClosed(1006, "", problem.message)
    types = {form.code: form.error for form in ERROR_FORMS if form.error is not InvalidInput}
    kind = types.get(problem.code, BackendRefused)
    if issubclass(kind, BackendError):
        return kind(problem.message, maybe_sent=problem.maybe_sent)
    return kind(problem.message)


def encode_receipts(receipts: Iterable[Receipt]) -> bytes:
    """Write the answer to a request that was served."""
    return msgspec.json.encode(_Receipts([ReceiptForm.of(receipt) for receipt in receipts]))


def decode_receipts(body: bytes) -> list[Receipt] | None:
    """Read the answer to a request that was served; None if a Mesa server did not write it."""
    answer = _decode(body, _Receipts)
    return None if answer is None else [receipt.read() for receipt in answer.receipts]


def encode_problem(problem: Problem) -> bytes:
    """Write the answer to a request that was not served."""
    return msgspec.json.encode(_Error(problem))


def decode_problem(body: bytes) -> Problem | None:
    """Read the answer to a request that was not served; None if a Mesa server did not write it."""
    answer = _decode(body, _Error)
    return None if answer is None else answer.error


class _Delivery(msgspec.Struct):
    stored: bool
    online: int
    dropped: str | None
    position: Position | None = None
    displaced: int = 0


class ReceiptForm(msgspec.Struct):
    """A receipt as it stands in JSON."""

    message_id: str
    deliveries: dict[str, _Delivery]
    nodes: int

    @classmethod
    def of(cls, receipt: Receipt) -> "ReceiptForm":
        """Write a receipt."""
        deliveries = {id: _Delivery(*delivery) for id, delivery in receipt.deliveries.items()}
        return cls(receipt.message_id, deliveries, receipt.nodes)

    def read(self) -> Receipt:
        """The receipt that it tells."""
        deliveries = {id: Delivery(*msgspec.structs.astuple(d)) for id, d in self.deliveries.items()}
        return Receipt(self.message_id, deliveries, self.nodes)


class _Receipts(msgspec.Struct):
    receipts: list[ReceiptForm]


class _Error(msgspec.Struct):
    error: Problem


def _decode(body: bytes, form: type[_Form]) -> _Form | None:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _told(error: MesaError) -> tuple[str, bool]:
    if isinstance(error, BackendError):
        return error.problem, error.maybe_sent
    if isinstance(error, RequestFailed):
        return error.text, True
    if isinstance(error, ConnectionClosed):
        return error.reason or error.meaning, True
    if isinstance(error, TimedOut):
        return str(error), True
    return str(error), False
