"""Answering the requests of clients.

Who answers is decided in one place: `Host.answer`. A node lets its own handlers do it, and portals
what those leave.
"""

import asyncio
import logging
from functools import partial
from typing import Any, Protocol

from ..answer import as_message
from ..codec import encode_message
from ..errors import ConnectionClosed, RequestError
from ..failure import FAILED, UNANSWERED, Failure
from ..message import Message
from ..session import Asked, answering, failing
from .forwarding import Sender
from .handlers import Handlers, name_of
from .outlet import Outlet
from .portal_answers import Awaited

log = logging.getLogger("mesa_ws.server")


class Host(Protocol):
    """Who has the answers."""

    async def answer(self, message: Message, connection: Any, /) -> bytes | Failure | Awaited:
        """The encoded message that answers a request of `connection`, or why there is none.

        Or what becomes done with one of both, while the connection goes on.
        """


async def answer(host: Host, asked: Asked, connection: object, outlet: Outlet) -> None:
    """Answer a request of a client, whatever becomes of it."""
    reply: bytes | Failure | Awaited = FAILED
    try:
        reply = await host.answer(asked.message, connection)
    finally:
        if isinstance(reply, asyncio.Future):
            reply.add_done_callback(partial(_write_later, asked.request, outlet))
        else:
            _write(asked.request, outlet, reply)


def _write(request: str, outlet: Outlet, reply: bytes | Failure) -> None:
    outlet.write(failing(reply, request) if isinstance(reply, Failure) else answering(reply, request))


def _write_later(request: str, outlet: Outlet, awaited: Awaited) -> None:
    if not awaited.cancelled():
        _write(request, outlet, awaited.result())


async def answer_by(handlers: Handlers, message: Message, connection: Sender) -> bytes | Failure | Awaited:
    """Let message handlers answer: the first that returns something, or raises, decides.

    Those after it are not called. A handler that returns None leaves the answer to the next one,
    and the last to portals, if there may be some. What a middleware keeps from the handlers is not
    answered.
    """
    kept = await handlers.intercepted(message, connection) if handlers.before_message else message
    if kept is None:
        return UNANSWERED
    reply: bytes | Failure | Awaited = await _answer_by(handlers, kept, connection)
    if reply is UNANSWERED and handlers.forwarder is not None:
        reply = await handlers.forwarder.asked(kept, connection)
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
