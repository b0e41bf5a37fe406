"""The decorators by which an application registers the handlers of a portal."""

from collections.abc import Callable
from typing import Any, overload

from ..backend.inbox import EventKind
from ..errors import InvalidSettings
from ..handlers import Handler
from ..handlers.caller import AnyHandler, checked
from ..text import plain
from .event import PortalEvent


class PortalHooks:
    """Registers handlers; each decorator returns the function as it is.

    A handler takes a `PortalEvent`. It is `async def`, or `def` to be run in a thread. If one raises,
    the event is handled again, by all of its handlers; after five times it is a dead letter.

    One that does not take what it is called with is refused at once, with `InvalidSettings`.

    What a handler returns answers a request, and none after it is called; `RequestError` does so, too.
    One that raises `Reject` refuses the event for good: it is not handled again.
    """

    def __init__(self) -> None:
        self._handlers: dict[EventKind, list[tuple[str | None, Handler]]] = {
            "connection": [],
            "authentication": [],
            "message": [],
            "disconnection": [],
        }
        self._on_error: list[Handler] = []
        self._on_rejected: list[Handler] = []

    def on_connection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for new connections, before anything else of that connection."""
        return self._add("connection", None, handler)

    def on_authentication(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for connections that belong to somebody now; `event.id` says whom."""
        return self._add("authentication", None, handler)

    @overload
    def on_message(self, handler: AnyHandler, /) -> AnyHandler: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyHandler], AnyHandler]: ...

    def on_message(self, handler_or_type: Any, /) -> Any:
        """Register `handler(event)` for all messages, or for those of one type.

        Used as `@portal.on_message` or as `@portal.on_message("PING")`.
        """
        if isinstance(handler_or_type, str):
            return lambda handler: self._add("message", handler_or_type, handler)
        if not callable(handler_or_type):
            raise InvalidSettings("on_message", "a function or a message type", handler_or_type)
        return self._add("message", None, handler_or_type)

    def on_disconnection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for connections that have ended, also because their server died."""
        return self._add("disconnection", None, handler)

    def on_error(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(error, event)`, called each time when a handler raised."""
        self._on_error.append(checked("on_error", handler, "error", "event"))
        return handler

    def on_rejected(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(rejection, event)`, called when a handler has raised `Reject`.

        Nothing of the event is kept once this has returned. It is called again for the same event if
        the portal dies before it has noted the rejection.
        """
        self._on_rejected.append(checked("on_rejected", handler, "rejection", "event"))
        return handler

    def _add(self, kind: EventKind, type: str | None, handler: AnyHandler) -> AnyHandler:
        self._handlers[kind].append((plain(type), checked(f"on_{kind}", handler, "event")))
        return handler

    def _handlers_of(self, event: PortalEvent) -> list[Handler]:
        name = event.message.type if event.message is not None else None
        return [handler for type, handler in self._handlers[event.type] if type is None or type == name]
