"""Answering the server's requests, apart from messages: a callback may wait for what one causes."""

import logging
from collections.abc import Callable

from ..calling import Handler, call
from ..codec import encode_message
from ..errors import ConnectionClosed, RequestError
from ..failure import BUSY, FAILED, UNANSWERED, Failure
from ..message import Message
from ..session import Asked, answering, failing
from .own_task import OwnTask

log = logging.getLogger("mesa_ws.client")

Write = Callable[[bytes], None]
"""Sends a frame to where the request came from, if that is still there."""


class Answering:
    """Runs the handlers of requests, each request in a task of its own.

    Args:
        most: requests at a time; more are answered with `busy`.
        report: tells the application what a handler raised.
    """

    def __init__(self, most: int, report: Callable[[Exception], None]) -> None:
        self._most = most
        self._report = report
        self._handlers: list[tuple[str | None, Handler]] = []
        self._tasks: set[OwnTask] = set()

    def add(self, type: str | None, handler: Handler) -> None:
        """Let `handler` answer requests of one type, or all."""
        self._handlers.append((type, handler))

    def ask(self, asked: Asked, write: Write) -> None:
        """Answer a request, in its own time."""
        if not self._wanting(asked.message):
            write(failing(UNANSWERED, asked.request))
        elif len(self._tasks) >= self._most:
            write(failing(BUSY, asked.request))
        else:
            self._begin(asked, write)

    async def finish(self) -> None:
        """Wait for the handlers that run; from within one of them, for the others."""
        for task in tuple(self._tasks):
            await task.finish()

    def cancel(self) -> None:
        """Cancel the handlers that run."""
        for task in tuple(self._tasks):
            task.cancel()

    def _begin(self, asked: Asked, write: Write) -> None:
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
        """The first handler that returns something, or raises, decides."""
        for handler in self._wanting(message):
            try:
                result = await call(handler, message)
                if result is not None:
                    answer = result if isinstance(result, Message) else Message(0, result, message.type)
                    return encode_message(answer)
            except RequestError as error:
                return Failure.of(error)
            except ConnectionClosed:
                log.debug("on_request handler: the connection has ended meanwhile")
                return FAILED
            except Exception as error:
                log.exception("on_request handler raised, or returned what cannot be sent")
                self._report(error)
                return FAILED
        return UNANSWERED

    def _wanting(self, message: Message) -> list[Handler]:
        return [handler for type, handler in self._handlers if type is None or type == message.type]
