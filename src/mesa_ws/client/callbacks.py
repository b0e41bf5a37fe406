"""The application's callbacks, called one after another, and its handlers of requests."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from ..concurrency.tasks import OwnTask, survive
from ..errors import ConnectionClosed, RequestError
from ..handlers.caller import ForMessages, Handler, call, checked, name_of, of_type
from ..messages.frames import encode_message
from ..messages.message import Message, as_message
from ..messages.request import BUSY, FAILED, UNANSWERED, Failure
from ..protocol.correlation import RequestReceived, answering, failing
from ..protocol.positions import Arrived, Forked, Lost, Moved, Reset
from .event_queue import ConnectionInfo, Disconnection, EventQueue, QueueClosed, QueuedEvent

log = logging.getLogger("mesa_ws.client")


AnyCallback = TypeVar("AnyCallback", bound=Handler)

ARGUMENTS = {
    "on_connected": ("info",),
    "on_disconnected": ("code", "reason", "will_reconnect"),
    "on_lost": ("number",),
    "on_forked": (),
    "on_reset": (),
    "on_error": ("error",),
}
"""What callbacks are called with; those of messages have a type besides."""

_WARNINGS = {
    "on_lost": "%d messages are lost; register on_lost to handle this",
    "on_forked": "messages may be missing: the server's Redis came back, perhaps without the newest "
    "messages that it had confirmed; register on_forked to handle this",
    "on_reset": "messages may be missing, or come again: the server does not know this client's "
    "position; register on_reset to handle this",
}
"""What is logged where no callback handles it."""


class Callbacks:
    """Registered callbacks: `async def`, or `def` in the event loop.

    Attributes:
        for_messages: those of messages.
    """

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Handler]] = {name: [] for name in ARGUMENTS}
        self.for_messages: list[ForMessages] = []

    def add(self, name: str, callback: AnyCallback) -> AnyCallback:
        """Register a callback by the name of its decorator, and return it."""
        self._callbacks[name].append(checked(name, callback, *ARGUMENTS[name]))
        return callback

    async def run(self, queue: EventQueue) -> None:
        """Call the callbacks for every event, until the queue is closed."""
        while True:
            try:
                event = await queue.next_event()
            except QueueClosed:
                return
            except asyncio.CancelledError:  # by a callback that kept a reference to this task
                await survive()
                continue
            await self._call_for(event)
            if isinstance(event, Arrived):
                queue.handled(event)

    async def _call_for(self, event: QueuedEvent) -> None:
        match event:
            case Arrived(what):
                await self._call_for_arrival(what)
            case ConnectionInfo():
                await self._call("on_connected", event)
            case Disconnection():
                await self._call("on_disconnected", *event)
            case asyncio.Event():
                event.set()
            case _:
                await self._report(event)

    async def _call_for_arrival(self, what: Message | Lost | Forked | Reset | Moved) -> None:
        match what:
            case Message(type=type):
                wanted = of_type(self.for_messages, type)
                if not wanted:
                    log.debug("no callback for a message of the type %r", type)
                await self._call_all(wanted, what)
            case Lost(number):
                await self._call("on_lost", number)
            case Forked():
                await self._call("on_forked")
            case Reset():
                await self._call("on_reset")

    async def _call(self, name: str, *args: Any) -> None:
        if not self._callbacks[name] and name in _WARNINGS:
            log.warning(_WARNINGS[name], *args)
        await self._call_all(self._callbacks[name], *args)

    async def _call_all(self, callbacks: list[Handler], *args: Any) -> None:
        for callback in callbacks:
            try:
                await call(callback, *args)
            except ConnectionClosed:
                log.debug("callback %s: the connection has ended", name_of(callback))
            except Exception as error:
                log.exception("callback %s raised", name_of(callback))
                await self._report(error)

    async def _report(self, error: Exception) -> None:
        for callback in self._callbacks["on_error"]:
            try:
                await call(callback, error)
            except Exception:
                log.exception("on_error callback %s raised", name_of(callback))


Write = Callable[[bytes], None]
"""Sends a frame over the connection of the request, if that is still open."""


class RequestHandlers:
    """Runs the handlers of the server's requests, each request in a task of its own.

    Args:
        most: requests at a time; others are answered with `busy`.
        report: reports an error of a handler to the application.

    Attributes:
        handlers: the handlers, in the order in which they are asked.
    """

    def __init__(self, most: int, report: Callable[[Exception], None]) -> None:
        self._most = most
        self._report = report
        self.handlers: list[ForMessages] = []
        self._tasks: set[OwnTask] = set()

    def handle(self, asked: RequestReceived, write: Write) -> None:
        """Answer a request, in a task of its own."""
        if not of_type(self.handlers, asked.message.type):
            write(failing(UNANSWERED, asked.request))
        elif len(self._tasks) >= self._most:
            write(failing(BUSY, asked.request))
        else:
            self._begin(asked, write)

    async def finish(self) -> None:
        """Wait for the handlers that run; a call from within a handler waits for the others."""
        for task in tuple(self._tasks):
            await task.finish()

    def cancel(self) -> None:
        """Cancel the handlers that run."""
        for task in tuple(self._tasks):
            task.cancel()

    def _begin(self, asked: RequestReceived, write: Write) -> None:
        async def answer() -> None:
            reply: bytes | Failure = FAILED
            try:
                reply = await self._answer(asked.message)
            finally:
                self._tasks.discard(task)
                write(
                    failing(reply, asked.request)
                    if isinstance(reply, Failure)
                    else answering(reply, asked.request)
                )

        task = OwnTask(answer)
        self._tasks.add(task)

    async def _answer(self, message: Message) -> bytes | Failure:
        """Call the handlers until one returns a value or raises, and return the answer."""
        for handler in of_type(self.handlers, message.type):
            try:
                result = await call(handler, message)
                if result is not None:
                    return encode_message(as_message(result, message))
            except RequestError as error:
                return Failure.of(error)
            except ConnectionClosed:
                log.debug("on_request handler: the connection has ended")
                return FAILED
            except Exception as error:
                log.exception("on_request handler raised, or its result cannot be sent")
                self._report(error)
                return FAILED
        return UNANSWERED
