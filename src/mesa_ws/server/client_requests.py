"""Answering the requests of clients.

Who answers is decided in one place: `Host.answer`. A node lets its own handlers do it, and portals
what those leave.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..errors import Refused, Reject, RequestError
from ..handlers import name_of
from ..messages.frames import encode_message
from ..messages.message import Message, as_message
from ..messages.request import BUSY, FAILED, GONE, KEPT, UNANSWERED, Failure
from ..protocol import RequestReceived, answering, failing
from .notifications import Reports
from .portal_forwarding import Awaited, Sender
from .registrations import Handlers, is_of_the_end
from .send_queue import Outlet

log = logging.getLogger("mesa_ws.server")


class Host(Protocol):
    """Who has the answers, and is told of them."""

    reports: Reports

    async def answer(self, message: Message, connection: Any, /) -> bytes | Failure | Awaited:
        """The encoded message that answers a request of `connection`, or why there is none.

        Or what becomes done with one of both, while the connection goes on.
        """


class Asker(Protocol):
    """A connection whose client has asked."""

    @property
    def outlet(self) -> Outlet:
        """Sends encoded frames."""

    @property
    def is_open(self) -> bool:
        """Whether anything can still be sent."""


async def answer(host: Host, asked: RequestReceived, connection: Asker) -> None:
    """Answer a request of a client, whatever becomes of it."""
    reply: bytes | Failure | Awaited = FAILED
    try:
        reply = await host.answer(asked.message, connection)
    finally:
        if isinstance(reply, asyncio.Future):
            reply.add_done_callback(partial(_write_later, host.reports, asked.request, connection))
        else:
            _write(host.reports, asked.request, connection, reply, from_this_node=True)


def _write(
    reports: Reports, request: str, connection: Asker, reply: bytes | Failure, *, from_this_node: bool
) -> None:
    if not connection.is_open:
        return
    if isinstance(reply, Failure):
        connection.outlet.write(failing(reply, request))
        return
    connection.outlet.write(answering(reply, request))
    reports.wrote(reply, [connection], from_this_node=from_this_node)


def _write_later(reports: Reports, request: str, connection: Asker, awaited: Awaited) -> None:
    if not awaited.cancelled():
        _write(reports, request, connection, awaited.result(), from_this_node=False)


async def answer_by(handlers: Handlers, message: Message, connection: Sender) -> bytes | Failure | Awaited:
    """Let message handlers answer: the first that returns something, or raises, decides.

    Those after it are not called. A handler that returns None leaves the answer to the next one,
    and the last to portals, if there may be some. What a middleware keeps from the handlers is
    answered with why. An answer passes `before_send` like all that this server's code sends.
    """
    kept = await handlers.intercepted(message, connection) if handlers.before_message else message
    if isinstance(kept, Failure):
        return kept
    reply: bytes | Failure | Awaited = await _answer_by(handlers, kept, connection)
    if reply is UNANSWERED and handlers.forwarder is not None:
        reply = await handlers.forwarder.asked(kept, connection)
    if handlers.message_received:
        await handlers.handled(kept, connection)
    return reply


async def _answer_by(handlers: Handlers, message: Message, connection: object) -> bytes | Failure:
    for handler in handlers.wanting(message):
        try:
            result = await handlers.caller.call(handler, message, connection)
            if result is not None:
                going = handlers.outgoing(as_message(result, message), connection)
                return encode_message(going) if going is not None else KEPT
        except RequestError as error:
            if isinstance(error, Reject):
                await handlers.reject(error, handler, message, connection)
            else:
                log.info("handler %s answers with the error %r", name_of(handler), error.code)
            return Failure.of(error)
        except Refused as refusal:
            log.info("the answer of handler %s was refused: %r", name_of(handler), refusal.reason)
            return Failure.of(RequestError(refusal.reason))
        except Exception as error:
            if is_of_the_end(error, connection):
                log.debug("handler %s: %r has ended meanwhile", name_of(handler), connection)
                return FAILED
            log.exception("handler %s raised, or returned what cannot be sent", name_of(handler))
            await handlers.failed(error, connection)
            return FAILED
    return UNANSWERED


TakeReply = Callable[[Message | Failure], None]


class PendingRequests:
    """Requests to one client, each until it is answered, withdrawn, or the client has left.

    An answer is handed over at once: it waits behind nothing that the client sent before.

    Args:
        most: requests at a time.
        changed: called when the client begins, or ceases, to owe an answer.
    """

    __slots__ = ("_changed", "_most", "_open")

    def __init__(self, most: int, changed: Callable[[], None]) -> None:
        self._most = most
        self._changed = changed
        self._open: dict[str, TakeReply] | None = None

    def __len__(self) -> int:
        return len(self._open) if self._open else 0

    def add(self, request: str, take: TakeReply) -> Failure | None:
        """Let `take` be called with the reply to a request that is about to be sent.

        Returns:
            Why it must not be sent; then `take` is not called.
        """
        if len(self) >= self._most:
            return BUSY
        if self._open is None:
            self._open = {}
        self._open[request] = take
        if len(self) == 1:
            self._changed()
        return None

    def replied(self, request: str, reply: Message | Failure) -> None:
        """Hand over what the client said; what was not asked is ignored."""
        take = self._open.pop(request, None) if self._open else None
        if take is not None:
            if not self._open:
                self._changed()
            take(reply)

    def withdraw(self, request: str) -> None:
        """Wait for the answer to a request no more."""
        if self._open and self._open.pop(request, None) is not None and not self._open:
            self._changed()

    def close(self) -> None:
        """The client has left, and answers nothing."""
        asked, self._open = self._open or {}, None
        for take in asked.values():
            take(GONE)
