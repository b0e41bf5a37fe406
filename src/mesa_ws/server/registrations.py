"""The handlers that the application and its middleware have registered, and the calls of them.

`async def` handlers run in the event loop, `def` handlers in a bounded pool of threads. Those of one
connection run one after another.
"""

import asyncio
import logging
from typing import Any, TypeVar

from ..concurrency.left_behind import report_tasks
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import CANCEL_GRACE, end, start
from ..errors import ConnectionClosed, Refused, Reject, RequestError
from ..handlers.caller import Caller, ForMessages, Handler, call_at_once, name_of, of_type
from ..messages.frames import RawFrame
from ..messages.message import DispatchEvent, Message
from ..messages.recipients import User
from ..messages.request import DROPPED, FAILED, Failure
from .portal_forwarding import Forwarder, Sender

T = TypeVar("T")


class HandlerList(list[T]):
    """The application's own handlers, then those of middleware; each in the order of registration.

    The server looks into each list as it runs, so an event without handlers costs nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self._of_middleware = 0

    def append(self, handler: T) -> None:
        """Add a handler of the application."""
        self.insert(len(self) - self._of_middleware, handler)

    def append_last(self, handler: T) -> None:
        """Add a hook of a middleware."""
        self._of_middleware += 1
        super().append(handler)


log = logging.getLogger("mesa_ws.server")

Sent = TypeVar("Sent", bound=Message | DispatchEvent)


class Handlers:
    """The registered handlers. Connections are only passed on to them.

    Args:
        threads: number of plain `def` handlers that run at the same time.

    Attributes:
        caller: calls handlers.
        log: gets what clients and other strangers cause; for the event loop only.
    """

    def __init__(self, threads: int) -> None:
        self.caller = Caller(threads, "mesa-handler")
        self.log = LimitedLog(log)
        self.authenticator: Handler | None = None
        self.before_authentication: HandlerList[Handler] = HandlerList()
        self.before_message: HandlerList[Handler] = HandlerList()
        self.before_send: HandlerList[Handler] = HandlerList()
        self.connection: HandlerList[Handler] = HandlerList()
        self.authentication: HandlerList[Handler] = HandlerList()
        self.message: list[ForMessages] = []
        self.message_received: HandlerList[Handler] = HandlerList()
        self.disconnection: HandlerList[Handler] = HandlerList()
        self.online: HandlerList[Handler] = HandlerList()
        self.offline: HandlerList[Handler] = HandlerList()
        self.lost: HandlerList[Handler] = HandlerList()
        self.forked: HandlerList[Handler] = HandlerList()
        self.error: HandlerList[Handler] = HandlerList()
        self.rejected: HandlerList[Handler] = HandlerList()
        self.stop: HandlerList[Handler] = HandlerList()
        self.sent: HandlerList[tuple[Handler, bool]] = HandlerList()  # with whether it is `async def`
        self.undeliverable: HandlerList[Handler] = HandlerList()
        self.redelivered: HandlerList[Handler] = HandlerList()
        self.portal_join: HandlerList[Handler] = HandlerList()
        self.portal_leave: HandlerList[Handler] = HandlerList()
        self.forwarder: Forwarder | None = None

    async def authenticate(self, data: Any, connection: object, timeout: float | None) -> User | None:
        """Call the authenticator; its errors are raised, and a result of a wrong type raises TypeError."""
        assert self.authenticator is not None  # noqa: S101 - called only where there is one
        async with asyncio.timeout(timeout) as limit:
            for hook in self.before_authentication:
                changed = await self.caller.call(hook, data, connection, limit=limit)
                data = data if changed is None else changed
            user = await self.caller.call(self.authenticator, data, connection, limit=limit)
        if user is None or isinstance(user, User):
            return user
        raise TypeError(f"authenticator: expected User(id, data) or None, got {type(user).__name__}")

    async def connected(self, connection: Sender) -> None:
        """Call the handlers of a new connection."""
        if self.forwarder is not None:
            await self.forwarder.connected(connection)
        await self.run(self.connection, connection, connection)

    async def authenticated(self, connection: Sender) -> None:
        """Call the handlers of a connection that has authenticated."""
        await self.renamed(connection)
        await self.run(self.authentication, connection, connection)

    async def renamed(self, connection: Sender) -> None:
        """Notify portals alone that a connection has another user."""
        if self.forwarder is not None:
            await self.forwarder.authenticated(connection)

    async def received(self, message: Message, connection: Sender, frame: RawFrame | None) -> None:
        """Forward a message to portals, then call its handlers, unless a middleware drops it."""
        kept = await self.intercepted(message, connection) if self.before_message else message
        if isinstance(kept, Failure):
            return
        if self.forwarder is not None:
            await self.forwarder.received(kept, connection, None if self.before_message else frame)
        if self.message:
            await self._handle(kept, connection)
        if self.message_received:
            await self.run(self.message_received, connection, kept, connection)

    async def intercepted(self, message: Message, connection: object) -> Message | Failure:
        """Call `before_message`; return the message to handle, or why it is not handled."""
        for hook in self.before_message:
            kept = await self._checked(hook, message, connection)
            if isinstance(kept, Failure):
                return kept
            message = kept
        return message

    async def reject(self, rejection: Reject, handler: Handler, message: Message, connection: object) -> None:
        """Report a message that a handler or a hook has rejected for good."""
        code, text = Failure.of(rejection)
        self.log.info(
            "handler %s rejected a message of %r with the code %r: %r",
            name_of(handler),
            connection,
            code,
            text,
            kind=name_of(handler),
        )
        await self.run(self.rejected, connection, rejection, message, connection)

    async def disconnected(self, connection: Sender, code: int, reason: str) -> None:
        """Call the handlers of a connection that has ended."""
        if self.forwarder is not None:
            await self.forwarder.disconnected(connection, code, reason)
        await self.run(self.disconnection, connection, connection, code, reason)

    async def stopping(self, timeout: float) -> None:
        """Call `on_stop` handlers, and wait at most `timeout` seconds for them."""
        calls = start(self.run(self.stop, None))
        try:
            await asyncio.wait({calls}, timeout=timeout)
        except asyncio.CancelledError:
            end(calls)
            raise
        if not calls.done():
            log.error("on_stop did not finish within %g seconds; the server stops without it", timeout)
            end(calls)
            await asyncio.wait({calls}, timeout=CANCEL_GRACE)
            report_tasks(log, [calls])

    def outgoing(self, message: Sent, connection: object) -> Sent | Message | None:
        """Call `before_send`; return the message to send, or None. Its errors are raised to the sender."""
        going: Sent | Message = message
        for hook in self.before_send if isinstance(message, Message) else ():
            kept = _kept(hook, call_at_once(hook, going, connection))
            if kept is None:
                return None
            going = kept
        return going

    async def failed(self, error: BaseException, connection: object) -> None:
        """Report an error of a handler; an error of `on_error` itself is only logged.

        Args:
            error: raised by the handler.
            connection: of the handler; None if it concerned an id.
        """
        for handler in self.error:
            try:
                await self.caller.call(handler, error, connection)
            except Exception:
                name = name_of(handler)
                self.log.exception("on_error handler %s raised", name, kind=name)

    async def _checked(self, hook: Handler, message: Message, connection: object) -> Message | Failure:
        try:
            return _kept(hook, await self.caller.call(hook, message, connection)) or DROPPED
        except Refused as refusal:
            name = name_of(hook)
            self.log.info("%s refused a message of %r: %r", name, connection, refusal.reason, kind=name)
            return Failure.of(RequestError(refusal.reason))
        except Reject as rejection:
            await self.reject(rejection, hook, message, connection)
            return Failure.of(rejection)
        except RequestError as error:
            log.debug("%s drops a message of %r: %r", name_of(hook), connection, error.code)
            return Failure.of(error)
        except Exception as error:
            name = name_of(hook)
            self.log.exception("hook %s raised; the message is not handled", name, kind=(name, type(error)))
            await self.failed(error, connection)
            return FAILED

    async def _handle(self, message: Message, connection: object) -> None:
        """Call the handlers of a message until one rejects it."""
        for handler in of_type(self.message, message.type):
            try:
                await self.caller.call(handler, message, connection)
            except Reject as rejection:
                await self.reject(rejection, handler, message, connection)
                break
            except Exception as error:  # noqa: BLE001 - it is logged and reported there
                await self._raised(error, handler, connection)

    async def run(self, handlers: list[Handler], connection: object, *args: Any) -> None:
        """Call handlers with `args`; an error is logged and reported, and concerns only `connection`.

        Args:
            handlers: to call.
            connection: that they are called for; None if they concern an id or the node.
            args: their arguments.
        """
        for handler in handlers:
            try:
                await self.caller.call(handler, *args)
            except Exception as error:  # noqa: BLE001 - it is logged and reported there
                await self._raised(error, handler, connection)

    async def _raised(self, error: Exception, handler: Handler, connection: object) -> None:
        """Log and report an error of a handler that has no request to answer."""
        name = name_of(handler)
        if isinstance(error, RequestError) and not isinstance(error, Reject):
            self.log.info(
                "handler %s raised %r, but there is no request to answer", name, error.code, kind=name
            )
        elif is_of_the_end(error, connection):
            log.debug("handler %s: %r has ended already", name, connection)
        else:
            self.log.error("handler %s raised", name, exc_info=error, kind=(name, type(error)))
            await self.failed(error, connection)


def _kept(hook: Handler, answer: object) -> Message | None:
    if answer is None or isinstance(answer, Message):
        return answer
    raise TypeError(f"{name_of(hook)}: expected a Message or None, got {type(answer).__name__}")


def is_of_the_end(error: Exception, connection: object) -> bool:
    """Return whether a handler failed because the connection that it was called for has ended.

    That is no fault of the application. If the handler used another connection that has ended, its
    error is like any other.
    """
    return isinstance(error, ConnectionClosed) and not getattr(connection, "is_open", True)
