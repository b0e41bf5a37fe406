"""The application's callbacks, told one after another."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any

from ..errors import ConnectionClosed
from ..message import Message
from .events import ConnectionInfo, Disconnection, Event
from .inbox import Inbox
from .waiting import Exhausted

log = logging.getLogger("mesa_ws.client")

Callback = Callable[..., Any]


class Callbacks:
    """What the application wants to be called for: `async def`, or `def` in the event loop."""

    def __init__(self) -> None:
        self.connected: list[Callback] = []
        self.message: list[tuple[str | None, Callback]] = []
        self.disconnected: list[Callback] = []
        self.error: list[Callback] = []

    async def tell_all(self, inbox: Inbox) -> None:
        """Tell everything that happens, until nothing can happen any more."""
        while True:
            try:
                event = await inbox.next_event()
            except Exhausted:
                return
            await self._tell(event)
            if isinstance(event, Message):
                inbox.handled()

    async def _tell(self, event: Event) -> None:
        match event:
            case Message(type=type):
                wanted = [callback for filter, callback in self.message if filter in {None, type}]
                if not wanted:
                    log.debug("no callback for a message of the type %r", type)
                await self._call(wanted, event)
            case ConnectionInfo():
                await self._call(self.connected, event)
            case Disconnection():
                await self._call(self.disconnected, *event)
            case _:
                await self._report(event)

    async def _call(self, callbacks: list[Callback], *args: Any) -> None:
        for callback in callbacks:
            try:
                await _run(callback, *args)
            except ConnectionClosed:
                log.debug("callback %s: the connection has ended meanwhile", _name_of(callback))
            except Exception as error:
                log.exception("callback %s raised", _name_of(callback))
                await self._report(error)

    async def _report(self, error: Exception) -> None:
        for callback in self.error:
            try:
                await _run(callback, error)
            except Exception:
                log.exception("on_error callback %s raised", _name_of(callback))


class CallbackCancelled(Exception):
    """A callback was cancelled from outside, or waited for something that was."""


async def _run(callback: Callback, *args: Any) -> None:
    try:
        result = callback(*args)
        if inspect.isawaitable(result):
            await result
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise CallbackCancelled("what the callback waited for was cancelled") from error


def _name_of(callback: Callback) -> str:
    return getattr(callback, "__qualname__", repr(callback))
