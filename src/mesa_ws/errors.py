"""Every error that Mesa raises, in one tree.

    MesaError
    ├── InvalidInput (also ValueError)   what the caller gave cannot be used; nothing was done
    │   ├── InvalidMessage               data that JSON cannot hold, an opcode of the protocol
    │   ├── InvalidRecipients            ids or exclusions that cannot name clients
    │   └── InvalidSettings              a setting: its name, what was expected, what came
    ├── Unsupported                      this backend or this version does not support it
    ├── BackendError
    │   ├── BackendUnavailable           no answer; `maybe_sent` says whether the write may have happened
    │   └── BackendRefused               a refusal: a wrong password, a missing permission;
    │                                    `maybe_sent` says whether a part was done before
    ├── Refused                          raised by an authenticator to turn a client away
    ├── AuthenticationFailed             the client's view of a refusal
    ├── ConnectionClosed                 the connection ended; `code` and `reason` say how
    ├── ConnectFailed                    the client could not reach a Mesa server
    ├── ListenFailed                     the server cannot listen: the port is in use, the host is not ours
    ├── NotAuthenticated                 the operation needs a client that has authenticated
    ├── QueueFull                        the client is offline and its send queue is at its limit
    ├── RequestError                     raised by a handler, so that a request is answered with this error
    │   └── Reject                       the same; it refuses what was sent for good, request or not
    ├── RequestFailed                    a request was answered with an error: `code` and `text` say which
    │   └── Unanswered                   the peer has no handler that answers such a request
    ├── NotConnected                     the id of the request has no connection
    ├── TooManyRequests                  too many requests wait for their answers
    └── TimedOut                         the peer gave no answer in time

Texts say what was expected, then what came, then what to do.
"""

from typing import TypeGuard

from .text import plain


class MesaError(Exception):
    """Base of every error that Mesa raises on purpose."""


class InvalidInput(MesaError, ValueError):
    """An argument cannot be used; nothing was sent and nothing was changed."""


class InvalidMessage(InvalidInput):
    """The message cannot go on the wire."""


class InvalidRecipients(InvalidInput):
    """The recipients or the exclusions do not name clients."""


class InvalidSettings(InvalidInput):
    """A setting is wrong.

    Attributes:
        field: dotted name of the setting, such as `heartbeat.interval`.
        expected: what would have been accepted.
        got: the value that was given.
    """

    def __init__(self, field: str, expected: str, got: object) -> None:
        super().__init__(field, expected, got)
        self.field = field
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}, got {self.got!r}"


class Unsupported(MesaError):
    """This backend or this version does not support the operation."""


class BackendError(MesaError):
    """The backend did not perform the operation, or only a part of it.

    Attributes:
        problem: what is wrong, without the outcome for the message.
        maybe_sent: False when certainly nothing was sent; True when a message, or a part of the
            messages of a call, may have been sent.
    """

    def __init__(self, problem: str, *, maybe_sent: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.maybe_sent = maybe_sent


class BackendUnavailable(BackendError):
    """The backend gave no answer in time, or cannot perform the operation now.

    `maybe_sent` is also True when the write may have happened and its reply was lost.
    """

    def __str__(self) -> str:
        outcome = "the message may have been sent" if self.maybe_sent else "nothing was sent"
        return f"{self.problem}; {outcome}"


class BackendRefused(BackendError):
    """The backend refused the operation.

    `maybe_sent` is True when only a part was refused: other messages of the call, or some of its
    recipients, were served.
    """

    def __str__(self) -> str:
        return f"{self.problem}; a part may have been sent" if self.maybe_sent else self.problem


class Refused(MesaError):
    """Raise this from an authenticator to turn a client away for good (close code 1008)."""

    def __init__(self, reason: str = "authentication refused") -> None:
        super().__init__(reason)
        self.reason = reason


class AuthenticationFailed(MesaError):
    """The server refused this client's authentication."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"authentication refused by the server (close code {self.code}{_because(self.reason)})"


class ConnectionClosed(MesaError):
    """The operation is not possible, because the connection has ended.

    Attributes:
        code: close code of RFC 6455 section 7.4, 1006 when there was none.
        reason: text of the close frame, often empty.
        meaning: the meaning of the code, where the frame has no reason; may be empty.
    """

    def __init__(self, code: int = 1006, reason: str = "", meaning: str = "") -> None:
        super().__init__(code, reason, meaning)
        self.code = code
        self.reason = reason
        self.meaning = meaning

    def __str__(self) -> str:
        return f"the connection is closed (close code {self.code}{_because(self.reason or self.meaning)})"


class ConnectFailed(MesaError):
    """The client could not reach a Mesa server.

    Attributes:
        retry_after: seconds to wait that the server, or a proxy before it, asked for by
            `Retry-After`; None if it did not.
    """

    def __init__(self, problem: str, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.retry_after = retry_after


class ListenFailed(MesaError):
    """The server cannot listen on the given address."""


class NotAuthenticated(MesaError):
    """The operation needs a client that has authenticated."""


class TimedOut(MesaError, TimeoutError):
    """The peer gave no answer in time."""


class QueueFull(MesaError):
    """The client is offline, and its send queue is full."""


class RequestError(MesaError):
    """Raise this from a handler to answer a request with an error; its text and code are sent.

    Any other exception of a handler is answered with the code `failed`, and without its text.

    Attributes:
        text: explains the error to the requester; up to 1000 characters are sent.
        code: identifies the error for programs: 1 to 64 visible ASCII characters, none of the
            codes that the protocol uses itself.

    Raises:
        InvalidInput: the code cannot be used.
    """

    def __init__(self, text: str, code: str = "refused") -> None:
        text, code = plain(text), plain(code)
        if not is_error_code(code) or code in PROTOCOL_ERROR_CODES:
            raise InvalidInput(
                f"code: expected 1 to 64 visible ASCII characters, and none of "
                f"{', '.join(sorted(PROTOCOL_ERROR_CODES))}, got {code!r}"
            )
        super().__init__(text, code)
        self.text = text
        self.code = code

    def __str__(self) -> str:
        return f"{self.text} ({self.code})"


class Reject(RequestError):
    """Raise this from a handler to refuse a message or an event for good, because it can never be handled.

    A portal does not handle the event again and does not make it a dead letter. No handler after
    this one is called. A request is answered with the text and the code; for a plain message the
    client gets nothing. Every rejection is counted, logged, and reported to `on_rejected` and not to
    `on_error`.

    It is for what clients send, and in portals for any event. In other handlers of a server, and in
    `on_message` of a client, nothing can be refused, and it is an error like any other.

    Attributes:
        text: the answer to a request, and the text of the log; up to 1000 characters are sent.
        code: identifies the rejection for programs, as that of a `RequestError`.

    Raises:
        InvalidInput: the code cannot be used.
    """

    def __init__(self, text: str, code: str = "rejected") -> None:
        super().__init__(text, code)


class RequestFailed(MesaError):
    """The peer answered a request with an error.

    Attributes:
        code: that of the handler's `RequestError`, or `failed` if it raised something else.
        text: the peer's explanation; may be empty.
    """

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"the request was answered with the error {self.code!r}{_because(self.text)}"


class Unanswered(RequestFailed):
    """The peer has no handler that answers such a request."""

    def __init__(self, code: str = "unanswered", text: str = "") -> None:
        super().__init__(code, text)


class NotConnected(MesaError):
    """The id of the request has no connection that could answer."""


class TooManyRequests(MesaError):
    """Too many requests wait for their answers; nothing was sent."""


PROTOCOL_ERROR_CODES = frozenset({"unanswered", "failed", "busy", "gone", "wire1", "absent"})
"""Codes of the protocol itself, which no application may use."""


def is_error_code(code: object) -> TypeGuard[str]:
    """Whether `code` is 1 to 64 visible ASCII characters."""
    return isinstance(code, str) and 0 < len(code) <= 64 and all("!" <= letter <= "~" for letter in code)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
