"""Errors of the HTTP API: `{"error": {"code", "message", "maybe_sent", "reason"}}`, written and read here.

A reader ignores members that it does not know.
"""

from typing import NamedTuple

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

INTERNAL_ERROR = "internal_error"
"""Code of a defect of the server; what became of the message is not known."""

OVERLOADED = "overloaded"
"""Code of a request that the API refuses since it has too much to do; nothing was sent."""

TOO_SLOW = "too_slow"
"""Code of a request that took too long to arrive; nothing was sent."""

RETRY_AFTER = 1
"""Seconds after which a dispatcher may try a refused request again."""

MAX_TEXT = 1000
"""Characters of an error's text that an answer repeats."""

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Exceptions of msgspec for a body that it cannot decode."""


class Problem(msgspec.Struct, frozen=True):
    """Error in place of an answer.

    Args:
        code: a name that programs may rely on.
        message: what was expected, what came, what to do.
        maybe_sent: whether a message may have been sent all the same.
        reason: code of the error that a client answered a request with; absent for all other errors.
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


def problem_of(error: MesaError) -> tuple[int, Problem] | None:
    """Return the status and the problem for `error`, or None if no call of the API raises such an error."""
    for form in ERROR_FORMS:
        if isinstance(error, form.error):
            text, maybe_sent = _described(error)
            reason = error.code if isinstance(error, RequestFailed) else msgspec.UNSET
            return form.status, Problem(form.code, shortened(text), maybe_sent, reason)
    return None


def error_of(problem: Problem) -> MesaError:
    """Return the error for `problem`; `BackendRefused` if its code has no error of its own."""
    if problem.code in {INTERNAL_ERROR, OVERLOADED}:
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


def shortened(text: str) -> str:
    """Return `text` for an answer, which repeats at most `MAX_TEXT` characters of what a client sent."""
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ..."


def encode_problem(problem: Problem) -> bytes:
    """Encode the answer to a request that failed."""
    return msgspec.json.encode(_Error(problem))


def decode_problem(body: bytes) -> Problem | None:
    """Decode the answer to a request that failed; None if a Mesa server did not write it."""
    try:
        return msgspec.json.decode(body, type=_Error).error
    except UNREADABLE:
        return None


class _Error(msgspec.Struct):
    error: Problem


def _described(error: MesaError) -> tuple[str, bool]:
    """Return the text of an error, and whether a message may have been sent."""
    if isinstance(error, BackendError):
        return error.problem, error.maybe_sent
    if isinstance(error, RequestFailed):
        return error.text, True
    if isinstance(error, ConnectionClosed):
        return error.reason or error.meaning, True
    return str(error), isinstance(error, TimedOut)
