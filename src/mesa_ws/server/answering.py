"""Answering the requests of clients.

Who answers is decided in one place: `Host.answer`. A node lets its own handlers do it.
"""

import logging
from typing import Any, Protocol

from ..codec import encode_message
from ..errors import ConnectionClosed, RequestError
from ..failure import FAILED, UNANSWERED, Failure
from ..message import Message
from ..session import Asked, answering, failing
from .handlers import Handlers, name_of
from .outlet import Outlet

log = logging.getLogger("mesa_ws.server")


class Host(Protocol):
    """Who has the answers."""

    async def answer(self, message: Message, connection: Any, /) -> bytes | Failure:
        """The encoded message that answers a request of `connection`, or why there is none."""


async def answer(host: Host, asked: Asked, connection: object, outlet: Outlet) -> None:
    """Answer a request of a client, whatever becomes of it."""
    reply: bytes | Failure = FAILED
    try:
        reply = await host.answer(asked.message, connection)
    finally:
        if isinstance(reply, Failure):
            outlet.write(failing(reply, asked.request))
        else:
            outlet.write(answering(reply, asked.request))


async def answer_by(handlers: Handlers, message: Message, connection: object) -> bytes | Failure:
    """Let message handlers answer: the first that returns something, or raises, decides.

    Those after it are not called. A handler that returns None leaves the answer to the next one.
    What a middleware keeps from the handlers is not answered.
    """
    kept = await handlers.intercepted(message, connection) if handlers.before_message else message
    if kept is None:
        return UNANSWERED
    reply = await _answer_by(handlers, kept, connection)
    if handlers.message_received:
        await handlers.handled(kept, connection)
    return reply


async def _answer_by(handlers: Handlers, message: Message, connection: object) -> bytes | Failure:
    for handler in handlers.wanting(message):
        try:
            result = await handlers.call(handler, message, connection)
            if result is not None:
                return encode_message(as_message(result, message))
        except RequestError as error:
            log.info("handler %s answers with the error %r", name_of(handler), error.code)
            return Failure.of(error)
        except ConnectionClosed:
            log.debug("handler %s: %r has ended meanwhile", name_of(handler), connection)
            return FAILED
        except Exception as error:
            log.exception("handler %s raised, or returned what cannot be sent", name_of(handler))
            await handlers.failed(error, connection)
            return FAILED
    return UNANSWERED


def as_message(result: object, request: Message) -> Message:
    """What a handler returned as the message that answers `request`; data takes over its type."""
    return result if isinstance(result, Message) else Message(0, result, request.type)
