"""A request to an id on its way through the cluster, and the replies of the nodes that hold the id.

The request travels as an envelope whose body is a `Question`. Each node that receives one sends one
`Reply` back to the requester. The first reply that is an answer, or a deliberate error, settles the
request; so do as many misses as nodes were asked.

A `Failure` takes the place of an answer. Its code says why there is none:

| code | meaning | where |
|---|---|---|
| `unanswered` | no handler answers such a request | on the wire |
| `failed` | the handler raised an error that is not for the requester | on the wire |
| `busy` | too many requests wait for answers, or too much was sent | on the wire |
| `gone` | the connection ended before it answered | between nodes |
| `wire1` | the client speaks wire 1, which knows no requests | between nodes |
| `absent` | the node that was asked holds no connection of the id | between nodes |
| any other | a handler's `RequestError` | on the wire |
"""

from typing import Annotated, NamedTuple

import msgspec

from ..errors import (
    PROTOCOL_ERROR_CODES,
    ConnectionClosed,
    InvalidSettings,
    MesaError,
    NotConnected,
    RequestError,
    RequestFailed,
    TooManyRequests,
    Unanswered,
    Unsupported,
    is_error_code,
)
from ..settings import Seconds
from .envelope import Envelope, new_message_id
from .frames import InvalidFrame, decode_frame, encode_message
from .message import Message
from .receipt import Receipt
from .recipients import Recipients, check_id

MAX_TEXT = 1000
"""Characters of a text that are sent and read."""

MISSES = ("unanswered", "busy", "gone", "wire1", "absent")
"""Codes of a peer that does not answer while another connection of the same id may; those that say
most come first."""

_ON_THE_WIRE = frozenset({"unanswered", "failed", "busy"})


class Failure(NamedTuple):
    """An error in the place of an answer.

    Attributes:
        code: one of the codes above.
        text: for people; may be empty.
    """

    code: str
    text: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Return the failure that the requester gets for `error`; only a `RequestError` says why."""
        if not isinstance(error, RequestError):
            return FAILED
        text = str(error.text)[:MAX_TEXT].encode("utf-8", "replace").decode()  # no lone surrogates
        return cls(error.code, text)

    @classmethod
    def read(cls, told: object) -> "Failure":
        """Read the member `error` of an answer; anything unreadable counts as `failed`."""
        code = told.get("code") if isinstance(told, dict) else None
        text = told.get("message") if isinstance(told, dict) else None
        if not is_error_code(code) or (code in PROTOCOL_ERROR_CODES and code not in _ON_THE_WIRE):
            code = FAILED.code
        return cls(code, text[:MAX_TEXT] if isinstance(text, str) else "")

    def error(self) -> MesaError:
        """Return the error to raise to the requester."""
        match self.code:
            case "unanswered":
                return Unanswered(self.code, self.text)
            case "busy":
                return TooManyRequests(
                    self.text or "the peer has too many requests to answer; ask again later"
                )
            case "gone":
                return ConnectionClosed(1006, "", "it ended before the client answered the request")
            case "wire1":
                return Unsupported(
                    "request: expected a client that speaks wire 2, got one of wire 1, which knows no "
                    "requests; dispatch a message to it instead"
                )
            case "absent":
                return NotConnected("request: expected an id that is connected, got one that has just left")
        return RequestFailed(self.code, self.text)


UNANSWERED = Failure("unanswered", "no handler answers such a request")
DROPPED = Failure("unanswered", "a middleware dropped the request")
FAILED = Failure("failed", "the handler failed")
BUSY = Failure("busy")
GONE = Failure("gone")
WIRE1 = Failure("wire1")
ABSENT = Failure("absent")


DEFAULT_REQUEST_TIMEOUT = 10.0
"""Seconds to wait for an answer."""

MAX_REQUESTS = 1000
"""Requests of one requester in an event loop that wait for their answers."""

MAX_BLOCKING_REQUESTS = 50
"""The same in threads, each of which holds a connection while it waits."""


class Question(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The body of an envelope of the kind `request`.

    Attributes:
        requester: where replies go.
        timeout: seconds after which no reply is of use.
        body: the encoded message.
    """

    requester: str
    timeout: Annotated[float, msgspec.Meta(gt=0)]
    body: bytes

    @classmethod
    def read(cls, body: bytes) -> "Question | None":
        """Read the body of an envelope; None if it is not a question."""
        try:
            return _QUESTION.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def write(self) -> bytes:
        """Return the body of an envelope."""
        return msgspec.msgpack.encode(self)


class Reply(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The reply of one node to a request.

    Attributes:
        request: the message id of the request.
        body: the encoded message that answers it; None if there is none.
        code: of the failure, if there is no answer.
        text: of the failure.
    """

    request: str
    body: bytes | None
    code: str = ""
    text: str = ""

    @classmethod
    def failed(cls, request: str, failure: Failure) -> "Reply":
        """Return a reply without an answer."""
        return cls(request, None, *failure)

    @classmethod
    def read(cls, payload: bytes) -> "Reply | None":
        """Read what `write` wrote; None for anything else."""
        try:
            return _REPLY.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    @property
    def is_miss(self) -> bool:
        """Whether another node may still answer."""
        return self.body is None and self.code in MISSES

    def write(self) -> bytes:
        """Return the reply as it travels."""
        return msgspec.msgpack.encode(self)

    def result(self) -> bytes:
        """Return the encoded message that answers the request.

        Raises:
            MesaError: there is no answer; the error says why.
        """
        if self.body is None:
            raise Failure(self.code, self.text).error()
        return self.body


class Tally:
    """The replies to one request, until one settles it.

    Attributes:
        outcome: the reply that settled it; None before.
    """

    __slots__ = ("_misses", "_most", "outcome")

    def __init__(self) -> None:
        self._misses: list[Reply] = []
        self._most: int | None = None
        self.outcome: Reply | None = None

    def expect(self, most: int) -> None:
        """Expect `most` replies."""
        self._most = most
        self._settle()

    def take(self, reply: Reply) -> None:
        """Count a reply; replies after the outcome change nothing."""
        if self.outcome is not None:
            return
        if reply.is_miss:
            self._misses.append(reply)
            self._settle()
        else:
            self.outcome = reply

    def _settle(self) -> None:
        if self._most is not None and self._misses and len(self._misses) >= self._most:
            self.outcome = min(self._misses, key=lambda miss: MISSES.index(miss.code))


def prepare_request(id: str, message: Message) -> Envelope:
    """Check a request and encode its message.

    Raises:
        InvalidMessage: the message cannot go on the wire.
        InvalidRecipients: `id` cannot name a client.
    """
    body = encode_message(message)
    return Envelope(Recipients.of([check_id(id)]), body, "request", new_message_id())


def addressed(request: Envelope, requester: str, timeout: float) -> Envelope:
    """Return the request for the nodes, with the address for their replies."""
    return msgspec.structs.replace(request, body=Question(requester, timeout, request.body).write())


def asked_nodes(request: Envelope, receipt: Receipt) -> int:
    """Return how many nodes were asked.

    Raises:
        NotConnected: none was, because the id has no connection.
    """
    [id] = request.recipients.ids
    if not receipt.nodes or not receipt.deliveries[id].online:
        raise NotConnected(f"request: expected an id that is connected, got {id!r}, which is not")
    return receipt.nodes


def read_answer(body: bytes) -> Message:
    """Decode the message of an answer.

    Raises:
        RequestFailed: it cannot be decoded here, for example because it is nested too deep for this stack.
    """
    try:
        return decode_frame(body).message()
    except InvalidFrame as error:
        raise RequestFailed(FAILED.code, f"the answer cannot be read: {error}") from None


def check_timeout(timeout: object) -> float:
    """Return `timeout` as a float.

    Raises:
        InvalidSettings: it is not a number of seconds, or out of range.
    """
    try:
        return msgspec.convert(timeout, Seconds)
    except msgspec.ValidationError:
        raise InvalidSettings(
            "timeout", "a number of seconds, more than 0 and up to 86400", timeout
        ) from None


_QUESTION = msgspec.msgpack.Decoder(Question)
_REPLY = msgspec.msgpack.Decoder(Reply)
