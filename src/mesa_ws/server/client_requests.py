"""Answers to the requests of clients: from the message handlers of this node, or else from portals."""

import asyncio
import logging
from functools import partial

from ..errors import Refused, Reject, RequestError
from ..handlers.caller import name_of, of_type
from ..messages.frames import RawFrame, encode_message
from ..messages.message import Message, as_message
from ..messages.request import DROPPED, FAILED, UNANSWERED, Failure
from ..protocol.correlation import RequestReceived, answering, failing
from .notifications import Notifications
from .portal_forwarding import PortalAnswer, Sender
from .registrations import Handlers, is_of_the_end

log = logging.getLogger("mesa_ws.server")


async def answer(
    handlers: Handlers,
    notifications: Notifications,
    event: RequestReceived,
    connection: Sender,
    frame: RawFrame | None,
) -> PortalAnswer | None:
    """Answer a request of a client, also if finding the answer fails or is cancelled.

    Args:
        handlers: find the answer.
        notifications: hear of it.
        event: the request.
        connection: of the client.
        frame: the request as it was received.

    Returns:
        The answer of a portal, if the request waits for one.
    """
    reply: bytes | Failure | PortalAnswer = FAILED
    try:
        reply = await _find_answer(handlers, event.message, connection, frame)
    finally:
        if isinstance(reply, asyncio.Future):
            write = partial(_write, notifications, event.request, connection, from_this_node=False)
            reply.add_done_callback(lambda done: write(done.result()))
        else:
            _write(notifications, event.request, connection, reply, from_this_node=True)
    return reply if isinstance(reply, asyncio.Future) else None


def _write(
    notifications: Notifications,
    request: str,
    connection: Sender,
    reply: bytes | Failure,
    *,
    from_this_node: bool,
) -> None:
    if not connection.is_open:
        return
    if isinstance(reply, Failure):
        connection.write(failing(reply, request))
        return
    connection.write(answering(reply, request))
    notifications.wrote(reply, [connection], from_this_node=from_this_node)


async def _find_answer(
    handlers: Handlers, message: Message, connection: Sender, frame: RawFrame | None
) -> bytes | Failure | PortalAnswer:
    """Call message handlers until one answers by returning something or raising.

    A handler that returns None leaves the answer to the next one, and the last one to portals, if the
    server has them. If a middleware drops the request, the answer says why. An answer passes
    `before_send` like every message that code of this server sends.
    """
    kept = await handlers.intercepted(message, connection) if handlers.before_message else message
    if isinstance(kept, Failure):
        return kept
    reply: bytes | Failure | PortalAnswer = await _call_handlers(handlers, kept, connection)
    if reply is UNANSWERED and handlers.forwarder is not None:
        is_as_received = not (handlers.before_message or handlers.message)
        reply = await handlers.forwarder.request(kept, connection, frame if is_as_received else None)
    if handlers.message_received:
        await handlers.run(handlers.message_received, connection, kept, connection)
    return reply


async def _call_handlers(handlers: Handlers, message: Message, connection: Sender) -> bytes | Failure:
    for handler in of_type(handlers.message, message.type):
        try:
            result = await handlers.caller.call(handler, message, connection)
            if result is not None:
                going = handlers.outgoing(as_message(result, message), connection)
                return encode_message(going) if going is not None else DROPPED
        except RequestError as error:
            if isinstance(error, Reject):
                await handlers.reject(error, handler, message, connection)
            else:
                name = name_of(handler)
                handlers.log.info("handler %s answers with the error %r", name, error.code, kind=name)
            return Failure.of(error)
        except Refused as refusal:
            name = name_of(handler)
            handlers.log.info("the answer of handler %s was refused: %r", name, refusal.reason, kind=name)
            return Failure.of(RequestError(refusal.reason))
        except Exception as error:
            if is_of_the_end(error, connection):
                log.debug("handler %s: %r has ended already", name_of(handler), connection)
                return FAILED
            name = name_of(handler)
            handlers.log.exception(
                "handler %s raised, or returned what cannot be sent", name, kind=(name, type(error))
            )
            await handlers.failed(error, connection)
            return FAILED
    return UNANSWERED
