"""A request through a server's HTTP API: `POST /v1/request`, written and read here.

`{"id", "message": {"op", "d", "t"}, "timeout", "namespace"}` is answered with
`{"answer": {"op", "d", "t"}}`, or with an error like those of a dispatch.
"""

from typing import Any

import msgspec

from .dispatch_request import read_message
from .envelope import Envelope
from .errors import InvalidInput, InvalidMessage
from .inquiry import DEFAULT_TIMEOUT, check_timeout, prepare_request
from .message import Message

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
    timeout: Any = DEFAULT_TIMEOUT
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
