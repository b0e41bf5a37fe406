"""The decorators that register an application's handlers at a portal."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args, overload

from ..backend.inbox import EventKind
from ..handlers.caller import AnyHandler, ForMessages, Handler, add_checked, checked, for_messages


@dataclass
class RegisteredHandlers:
    """The handlers of one portal.

    Attributes:
        by_kind: kind of event -> its handlers, each with the type of messages it wants; None for all.
        error: handlers of errors.
        rejected: handlers of rejections.
    """

    by_kind: dict[EventKind, list[ForMessages]] = field(
        default_factory=lambda: {kind: [] for kind in get_args(EventKind)}
    )
    error: list[Handler] = field(default_factory=list)
    rejected: list[Handler] = field(default_factory=list)


class PortalHooks:
    """Registers handlers; each decorator returns the function unchanged.

    A handler gets a `PortalEvent`. It is `async def`, or `def` to run in a thread. If a handler raises,
    the event is handled again, by all of its handlers; after five times it is a dead letter. A handler
    that cannot be called with its arguments is refused at once, with `InvalidSettings`.

    The first handler that returns a value or raises `RequestError` answers a request; no other handler
    is called then. A handler that raises `Reject` refuses the event for good: it is not handled again.
    """

    def __init__(self) -> None:
        self._registered = RegisteredHandlers()

    def on_connection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for new connections; it is the first event of a connection."""
        return self._add("connection", handler)

    def on_authentication(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for connections that have authenticated, as `event.id`."""
        return self._add("authentication", handler)

    @overload
    def on_message(self, handler: AnyHandler, /) -> AnyHandler: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyHandler], AnyHandler]: ...

    def on_message(self, handler_or_type: Any, /) -> Any:
        """Register `handler(event)` for all messages, or for those of one type.

        Use it as `@portal.on_message` or as `@portal.on_message("PING")`.
        """
        handlers = self._registered.by_kind["message"]
        return for_messages("on_message", handler_or_type, handlers.append, "event")

    def on_disconnection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(event)` for connections that have ended, also because their server died."""
        return self._add("disconnection", handler)

    def on_error(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(error, event)`, called each time a handler has raised."""
        return add_checked(self._registered.error, "on_error", handler, "error", "event")

    def on_rejected(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(rejection, event)`, called when a handler has raised `Reject`.

        Mesa keeps nothing of the event after `handler` has returned. `handler` is called again for the
        same event if the portal dies before it has recorded the rejection.
        """
        return add_checked(self._registered.rejected, "on_rejected", handler, "rejection", "event")

    def _add(self, kind: EventKind, handler: AnyHandler) -> AnyHandler:
        self._registered.by_kind[kind].append((None, checked(f"on_{kind}", handler, "event")))
        return handler
