"""Requests and answers on the wire: the `x` of a message (spec section 17.10)."""

import re
from typing import NamedTuple

from ..messages.frames import Frame, RawFrame, encode_frame, extended
from ..messages.message import Message
from ..messages.request import Failure

_is_request_id = re.compile(r"[0-9A-Za-z_-]{1,64}").fullmatch


class RequestReceived(NamedTuple):
    """The peer sent a request; answer it with its id.

    Attributes:
        request: its id.
        message: the message of the request.
    """

    request: str
    message: Message


class ReplyReceived(NamedTuple):
    """The peer answered a request, perhaps one that is no longer waited for.

    Attributes:
        request: its id.
        reply: the answer, or the reason why there is none.
    """

    request: str
    reply: Message | Failure


def read_correlation(frame: Frame) -> RequestReceived | ReplyReceived | None:
    """Return the request or the reply that a frame is; None for an ordinary message."""
    reply = read_reply(frame)
    if reply is not None:
        return reply
    request = read_request_id(frame.x)
    return RequestReceived(request, frame.message()) if request else None


def read_reply(frame: Frame | RawFrame) -> ReplyReceived | None:
    """Return the reply that a frame is; None for any other.

    Raises:
        InvalidFrame: the data of a `RawFrame` cannot be held.
    """
    extension = frame.x
    if not isinstance(extension, dict) or "a" not in extension:
        return None
    answered, message = extension["a"], frame.message()
    failure = Failure.read(extension["error"]) if extension.get("error") is not None else None
    return ReplyReceived(answered if isinstance(answered, str) else "", failure or message)


def read_request_id(extension: object) -> str:
    """Return the id of a request from its `x`; empty if it is none."""
    asked = extension.get("r") if isinstance(extension, dict) else None
    return asked if isinstance(asked, str) and _is_request_id(asked) else ""


def asking(body: bytes, request: str) -> bytes:
    """Return the frame of a request, from the encoded message."""
    return extended(body, {"r": request})


def answering(body: bytes, request: str) -> bytes:
    """Return the frame that answers a request, from the encoded message."""
    return extended(body, {"a": request})


def failing(failure: Failure, request: str) -> bytes:
    """Return the frame that says why a request is not answered."""
    error = {"code": failure.code, "message": failure.text}
    return extended(encode_frame(0), {"a": request, "error": error})
