"""Why a request is not answered: what peers tell each other, and the error that it becomes.

| code | meaning | where |
|---|---|---|
| `unanswered` | no handler answers such a request | on the wire |
| `failed` | the handler raised something that is nobody else's business | on the wire |
| `busy` | more requests wait for answers than may | on the wire |
| `gone` | the connection ended before it answered | between nodes |
| `wire1` | the client speaks wire 1, which knows no requests | between nodes |
| `absent` | the node that was asked holds no connection of the id | between nodes |
| any other | a handler's `RequestError` | on the wire |
"""

from typing import NamedTuple

from .errors import (
    PROTOCOL_ERROR_CODES,
    ConnectionClosed,
    MesaError,
    NotConnected,
    RequestError,
    RequestFailed,
    TooManyRequests,
    Unanswered,
    Unsupported,
    is_error_code,
)

MAX_TEXT = 1000
"""Characters of a text that are sent, and read."""

MISSES = ("unanswered", "busy", "gone", "wire1", "absent")
"""Codes that mean that this peer does not answer, but another connection of the same id may; those
that tell most first."""

_ON_THE_WIRE = frozenset({"unanswered", "failed", "busy"})


class Failure(NamedTuple):
    """An error in the place of an answer.

    Attributes:
        code: see above.
        text: for people; may be empty.
    """

    code: str
    text: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """What the asker is told when a handler raised `error`: nothing that it was not meant to be told."""
        if not isinstance(error, RequestError):
            return FAILED
        text = str(error.text)[:MAX_TEXT].encode("utf-8", "replace").decode()  # no lone surrogates
        return cls(error.code, text)

    @classmethod
    def read(cls, told: object) -> "Failure":
        """Read the member `error` of an answer; what cannot be read counts as `failed`."""
        code = told.get("code") if isinstance(told, dict) else None
        text = told.get("message") if isinstance(told, dict) else None
        if not is_error_code(code) or (code in PROTOCOL_ERROR_CODES and code not in _ON_THE_WIRE):
            code = FAILED.code
        return cls(code, text[:MAX_TEXT] if isinstance(text, str) else "")

    @property
    def is_miss(self) -> bool:
        """Whether another connection of the same id may still answer."""
        return self.code in MISSES

    def error(self) -> MesaError:
        """What to raise where the answer is waited for."""
        match self.code:
            case "unanswered":
                return Unanswered(self.code, self.text)
            case "busy":
                return TooManyRequests("the peer has as many requests to answer as it takes; ask again later")
            case "gone":
                return ConnectionClosed(1006, "", "it ended before the request was answered")
            case "wire1":
                return Unsupported(
                    "request: expected a client that speaks wire 2, got one of wire 1, which knows no "
                    "requests; dispatch a message to it instead"
                )
            case "absent":
                return NotConnected("request: expected an id that is connected, got one that has just left")
        return RequestFailed(self.code, self.text)


UNANSWERED = Failure("unanswered", "no handler answers such a request")
KEPT = Failure("unanswered", "a middleware keeps it back")
FAILED = Failure("failed", "the handler failed")
BUSY = Failure("busy")
GONE = Failure("gone")
WIRE1 = Failure("wire1")
ABSENT = Failure("absent")
