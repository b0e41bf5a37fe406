"""The application's callbacks, told one after another."""

import asyncio
import logging
from typing import Any

from ..calling import Handler, call, name_of
from ..concurrency.tasks import survive
from ..errors import ConnectionClosed
from ..message import Message
from ..session import Arrived, Forked, Lost, Moved, Reset
from .events import ConnectionInfo, Disconnection, Event
from .inbox import Inbox
from .waiting import Exhausted

log = logging.getLogger("mesa_ws.client")


class Callbacks:
    """What the application wants to be called for: `async def`, or `def` in the event loop."""

    def __init__(self) -> None:
        self.connected: list[Handler] = []
        self.message: list[tuple[str | None, Handler]] = []
        self.lost: list[Handler] = []
        self.forked: list[Handler] = []
        self.reset: list[Handler] = []
        self.disconnected: list[Handler] = []
        self.error: list[Handler] = []

    async def tell_all(self, inbox: Inbox) -> None:
        """Tell everything that happens, until nothing can happen any more."""
        while True:
            try:
                event = await inbox.next_event()
            except Exhausted:
                return
            except asyncio.CancelledError:  # by a callback that has kept this task
                await survive()
                continue
            await self._tell(event)
            if isinstance(event, Arrived):
                inbox.handled(event)

    async def _tell(self, event: Event) -> None:
        match event:
            case Arrived(what):
                await self._tell_arrival(what)
            case ConnectionInfo():
                await self._call(self.connected, event)
            case Disconnection():
                await self._call(self.disconnected, *event)
            case asyncio.Event():
                event.set()
            case _:
                await self._report(event)

    async def _tell_arrival(self, what: Message | Lost | Forked | Reset | Moved) -> None:
        match what:
            case Message(type=type):
                wanted = [callback for filter, callback in self.message if filter in {None, type}]
                if not wanted:
                    log.debug("no callback for a message of the type %r", type)
                await self._call(wanted, what)
            case Lost(number):
                if not self.lost:
                    log.warning("%d messages are lost; register on_lost to be told", number)
                await self._call(self.lost, number)
            case Forked():
                if not self.forked:
                    log.warning(
                        "messages may be missing: the server's Redis came back, perhaps without the newest "
                        "of what it had confirmed; register on_forked to be told"
                    )
                await self._call(self.forked)
            case Reset():
                if not self.reset:
                    log.warning(
                        "messages may be missing, or come again: the server does not know this client's "
                        "position; register on_reset to be told"
                    )
                await self._call(self.reset)

    async def _call(self, callbacks: list[Handler], *args: Any) -> None:
        for callback in callbacks:
            try:
                await call(callback, *args)
            except ConnectionClosed:
                log.debug("callback %s: the connection has ended meanwhile", name_of(callback))
            except Exception as error:
                log.exception("callback %s raised", name_of(callback))
                await self._report(error)

    async def _report(self, error: Exception) -> None:
        for callback in self.error:
            try:
                await call(callback, error)
            except Exception:
                log.exception("on_error callback %s raised", name_of(callback))
