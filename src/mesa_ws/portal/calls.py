"""Calls of the handlers of an event, and the reply to a request."""

import logging
from typing import NamedTuple

from ..backend.inbox import WaitingEvent, reply_recipient
from ..errors import BackendError, Reject, RequestError
from ..handlers.caller import Caller, Handler, name_of
from ..messages.envelope import REMEMBERED, Envelope, IdempotencyScope, current_scope, new_message_id
from ..messages.frames import encode_message
from ..messages.message import as_message
from ..messages.recipients import Recipients
from ..messages.request import FAILED, UNANSWERED, Failure, Reply
from .event import PortalEvent, Send
from .handling import MAX_DELIVERIES, Handled
from .hooks import RegisteredHandlers

MAX_REASON = 1000
"""Characters that are kept of the reason why a handler failed."""

log = logging.getLogger("mesa_ws.portal")


class _Rejection(NamedTuple):
    """A handler, named for logs, has refused an event for good; `reply` answers a request."""

    error: Reject
    reply: Failure
    handler: str


class HandlerCalls:
    """Calls the handlers of events, one after another for each event.

    Args:
        handlers: the application's.
        caller: calls them in the event loop, or in threads.
        send: sends a message to one connection of a node.

    Attributes:
        rejected: number of events that handlers have refused for good.
    """

    def __init__(self, handlers: RegisteredHandlers, caller: Caller, send: Send) -> None:
        self._handlers = handlers
        self._caller = caller
        self._send = send
        self.rejected = 0

    async def observe(self, waiting: WaitingEvent) -> None:
        """Call the handlers of an event that is delivered once, so that messages they send need no key.

        An observer does not answer requests: other portals do.
        """
        event = self._read(waiting, 1)
        if isinstance(event, PortalEvent):
            event.request = None
            await self._deliver(event)

    async def handle(self, waiting: WaitingEvent, deliveries: int) -> Handled:
        """Call the handlers of an event, at its nth delivery."""
        event = self._read(waiting, deliveries)
        if not isinstance(event, PortalEvent):
            return event
        scope = IdempotencyScope(event.key)
        token = current_scope.set(scope)
        try:
            handled = await self._deliver(event)
        finally:
            current_scope.reset(token)
        # Not if this was cancelled: a thread may go on, and another portal handles the same event.
        scope.is_over = True
        return handled._replace(message_ids=tuple(scope.message_ids)) if scope.message_ids else handled

    def _read(self, waiting: WaitingEvent, deliveries: int) -> PortalEvent | Handled:
        """Make the event for handlers; an event that cannot be read has failed."""
        try:
            event = PortalEvent(waiting, deliveries, self._send)
        except Exception as error:
            log.exception("cannot read an event")
            return Handled(_reason(error))
        log.debug("delivery %d of %r", deliveries, event)
        return event

    async def _deliver(self, event: PortalEvent) -> Handled:
        failure, result = await self._call_handlers(event)
        rejection = result if isinstance(result, _Rejection) else None
        reply = result.reply if isinstance(result, _Rejection) else result
        if event.request is not None and reply is not None:
            failure = await self._reply(event, event.request, reply) or failure
        if failure is None and rejection is not None:
            await self._reject(event, rejection)
        return Handled(failure, rejection is not None)

    async def _call_handlers(
        self, event: PortalEvent
    ) -> tuple[str | None, bytes | Failure | _Rejection | None]:
        """Call handlers until one answers the request, or rejects the event.

        Returns:
            Why the event has to be handled again, or None; and the result.
        """
        type = event.message.type if event.message is not None else None
        for wanted, handler in self._handlers.by_kind[event.type]:
            if wanted is not None and wanted != type:
                continue
            try:
                result = await self._call(handler, event)
            except Exception as error:
                log.exception("handler %s raised at delivery %d", name_of(handler), event.deliveries)
                await self._report(self._handlers.error, error, event, "on_error")
                is_last = event.deliveries >= MAX_DELIVERIES
                return _reason(error), FAILED if is_last else None
            if result is not None:
                return None, result
        return None, UNANSWERED

    async def _call(self, handler: Handler, event: PortalEvent) -> bytes | Failure | _Rejection | None:
        """Call a handler; return None if it leaves the answer to others, or nothing was requested.

        Raises:
            Exception: the handler raised another error than a deliberate one, or its result cannot be sent.
        """
        try:
            result = await self._caller.call(handler, event)
        except Reject as rejection:
            return _Rejection(rejection, Failure.of(rejection), name_of(handler))
        except RequestError as error:
            if event.message is None:
                raise
            log.info("handler %s answers with the error %r", name_of(handler), error.code)
            return Failure.of(error) if event.request is not None else None
        if result is None or event.request is None or event.message is None:
            return None
        return encode_message(as_message(result, event.message))

    async def _reply(self, event: PortalEvent, request: str, reply: bytes | Failure) -> str | None:
        """Answer a request; return why that failed, or None.

        The server uses the first answer to a request, so sending the same answer again does no harm.
        """
        body = Reply.failed(request, reply) if isinstance(reply, Failure) else Reply(request, reply)
        recipients = Recipients(False, (reply_recipient(event.connection_id),), frozenset())
        # It is remembered so that it may be sent again where the connection to the backend broke.
        message_id = new_message_id()
        envelope = Envelope(recipients, body.write(), "connection", message_id, remember=REMEMBERED)
        try:
            await self._send(envelope, event.node)
        except BackendError as error:
            log.warning("the answer to a request of %r cannot be sent: %s", event, error)
            return f"{type(error).__name__}: {error}"
        return None

    async def _reject(self, event: PortalEvent, rejection: _Rejection) -> None:
        """Count an event that was refused for good, and report it."""
        self.rejected += 1
        code, text = rejection.reply
        log.info("handler %s rejected %r with the code %r: %r", rejection.handler, event, code, text)
        await self._report(self._handlers.rejected, rejection.error, event, "on_rejected")

    async def _report(self, handlers: list[Handler], error: Exception, event: PortalEvent, hook: str) -> None:
        for handler in handlers:
            try:
                await self._caller.call(handler, error, event)
            except Exception:
                log.exception("%s handler %s raised", hook, name_of(handler))


def _reason(error: Exception) -> str:
    """Return why a handler failed, as text that every backend can hold."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except Exception:  # noqa: BLE001 - its `__str__` raises
        text = name
    return text[:MAX_REASON].encode(errors="replace").decode()
