"""What a server's HTTP API answers a dispatcher: receipts, or one error; written and read here.

`{"receipts": [{"message_id", "deliveries": {id: {"stored", "online", "dropped", "position",
"displaced"}}, "nodes"}]}`, one receipt for each message in the order of the request, or
`{"error": {"code", "message", "maybe_sent"}}`. A reader passes over members it does not know.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeVar

import msgspec

from .envelope import Delivery, Receipt
from .errors import (
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
from .position import Position


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
