"""Answering the requests of clients with what handlers return."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from ..backend.inbox import reply_recipient
from ..errors import BackendError, Reject, RequestError
from ..handlers import Handler, name_of
from ..messages.envelope import REMEMBERED, Envelope, new_message_id
from ..messages.frames import encode_message
from ..messages.message import as_message
from ..messages.recipients import Recipients
from ..messages.request import Failure, Reply
from .event import PortalEvent, Send

log = logging.getLogger("mesa_ws.portal")

Call = Callable[[Handler, PortalEvent], Awaitable[Any]]
"""Calls a handler, and raises what it raises."""


class Rejection(NamedTuple):
    """A handler has refused an event for good.

    Attributes:
        error: what it raised.
        answer: what a request is answered with.
        handler: what it is called in logs.
    """

    error: Reject
    answer: Failure
    handler: str


async def consult(call: Call, handler: Handler, event: PortalEvent) -> bytes | Failure | Rejection | None:
    """Call a handler.

    Returns:
        The encoded message that it answers a request with, or its deliberate error; None if it
        leaves the answer to others, or nobody waits for one. Or that it refuses the event.

    Raises:
        Exception: what else it raised, or what it returned cannot be sent.
    """
    try:
        result = await call(handler, event)
    except Reject as rejection:
        return Rejection(rejection, Failure.of(rejection), name_of(handler))
    except RequestError as error:
        if event.message is None:
            raise
        log.info("handler %s answers with the error %r", name_of(handler), error.code)
        return Failure.of(error) if event.request is not None else None
    if result is None or event.request is None or event.message is None:
        return None
    return encode_message(as_message(result, event.message))


async def respond(event: PortalEvent, reply: bytes | Failure, send: Send) -> str | None:
    """Answer the request that an event is, if it is one.

    The server takes the first answer to a request, so the same once more does no harm.

    Returns:
        Why that failed, or None.
    """
    if event.request is None:
        return None
    body = Reply.failed(event.request, reply) if isinstance(reply, Failure) else Reply(event.request, reply)
    who = Recipients(False, (reply_recipient(event.connection_id),), frozenset())
    # It is remembered so that it may be sent again where the connection to the backend broke.
    envelope = Envelope(who, body.write(), "connection", new_message_id(), remember=REMEMBERED)
    try:
        await send(envelope, event.node)
    except BackendError as error:
        log.warning("the answer to a request of %r cannot be sent: %s", event, error)
        return f"{type(error).__name__}: {error}"
    return None
