"""The decorators by which an application registers its handlers."""

from collections.abc import Callable
from typing import Any, overload

from ..errors import InvalidSettings
from ..handlers import name_of
from ..handlers.caller import AnyHandler, checked
from ..text import plain
from .middleware import enlist, made
from .registrations import Handlers


class Hooks:
    """Registers handlers; each decorator returns the function as it is.

    A handler is `async def`, or `def` to be run in a thread. One that raises is logged, reported
    to `on_error`, and harms no other connection. One that does not take what it is called with is
    refused at once, with `InvalidSettings`.
    """

    def __init__(self, handlers: Handlers) -> None:
        self._handlers = handlers

    def authenticator(self, handler: AnyHandler) -> AnyHandler:
        """Register the function that turns authentication data into a `User`.

        It is called with the data the client sent and the connection. Returning None or raising
        `Refused` turns the client away for good (close code 1008). Any other exception, and
        taking longer than `Authentication.timeout`, is reported and closes with 1011, after
        which the client may come back.

        Raises:
            InvalidSettings: there is one already.
        """
        if self._handlers.authenticator is not None:
            raise InvalidSettings("authenticator", "one function", f"a second one, {name_of(handler)}")
        self._handlers.authenticator = checked("authenticator", handler, "data", "connection")
        return handler

    def on_connection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection)`, called before anything else of that connection."""
        self._handlers.connection.append(checked("on_connection", handler, "connection"))
        return handler

    def on_authentication(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection)`, called after the client was told who it is."""
        self._handlers.authentication.append(checked("on_authentication", handler, "connection"))
        return handler

    @overload
    def on_message(self, handler: AnyHandler, /) -> AnyHandler: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyHandler], AnyHandler]: ...

    def on_message(self, handler_or_type: Any, /) -> Any:
        """Register `handler(message, connection)`, for all messages or for those of one type.

        Used as `@server.on_message` or as `@server.on_message("PING")`. What it returns answers a
        request: a `Message`, or data for one of the request's type. The first handler that
        returns something other than None decides, and so does one that raises: `RequestError` is
        told to the client, of anything else only that it failed. What it returns for a message that is
        no request goes nowhere. No handler is called after one that raises `Reject`.
        """
        if isinstance(handler_or_type, str):
            return lambda handler: self._add(handler_or_type, handler)
        if not callable(handler_or_type):
            raise InvalidSettings("on_message", "a function or a message type", handler_or_type)
        return self._add(None, handler_or_type)

    def on_disconnection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection, code, reason)`, the last call for a connection."""
        self._handlers.disconnection.append(
            checked("on_disconnection", handler, "connection", "code", "reason")
        )
        return handler

    def on_online(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id)`, called when an id gets its first connection in the whole cluster.

        One node of the cluster is told, once for each change. Calls about one id come one after
        another. A client that comes back within `Presence.grace` was not away.
        """
        self._handlers.online.append(checked("on_online", handler, "id"))
        return handler

    def on_offline(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id)`, called when an id has had no connection for `Presence.grace`.

        Told like `on_online`; also when the node that held the id died.
        """
        self._handlers.offline.append(checked("on_offline", handler, "id"))
        return handler

    def on_lost(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id, n)`, called when `n` stored messages to an id were dropped unreceived.

        Only for clients of 1.x, which cannot be told themselves; once for each loss.
        """
        self._handlers.lost.append(checked("on_lost", handler, "id", "n"))
        return handler

    def on_forked(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(since)`, called when Redis may have forgotten what it had confirmed.

        Redis restarted, or a replica took over. What it confirmed before `since` is kept, as far as it
        ever was; of what came later, the newest may be lost: stored messages to any id, and who is
        online. `since` is Unix time of Redis's clock, a few seconds before the failure, or 0 if nothing
        is left. An application that knows what it dispatched since then can do so again, under the same
        `idempotency_key`. Clients on wire 2 are told themselves.

        One node of the cluster is told, once each time; another one too if the first dies while it
        tells it. A restart or a failover without any loss is told, too: Redis does not say which it
        was.
        """
        self._handlers.forked.append(checked("on_forked", handler, "since"))
        return handler

    def on_error(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(error, connection)`, called when a handler raised.

        The connection is None where the handler was about an id.
        """
        self._handlers.error.append(checked("on_error", handler, "error", "connection"))
        return handler

    def on_rejected(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(rejection, message, connection)`, called when a message was rejected.

        A handler of the message or a middleware has raised `Reject`. What a portal rejects is reported
        in the portal.
        """
        self._handlers.rejected.append(checked("on_rejected", handler, "rejection", "message", "connection"))
        return handler

    def on_stop(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler()`, called when the server is about to stop, before clients are closed.

        `connection.send` still reaches the clients; what goes through the cluster may come too late
        for those of this server. Such handlers get five seconds together; then the server stops
        without them.
        """
        self._handlers.stop.append(checked("on_stop", handler))
        return handler

    def use(self, middleware: object) -> Any:
        """Add a middleware: an object with some of the methods of `Middleware`.

        A class, or a function without such methods, is called to make the object, with the server
        if it needs an argument.

        Returns:
            The object.

        Raises:
            InvalidSettings: it has none of the methods, or one of them cannot be called.
        """
        used = made(middleware, self)
        enlist(self._handlers, used)
        return used

    def _add(self, type: str | None, handler: AnyHandler) -> AnyHandler:
        self._handlers.message.append((plain(type), checked("on_message", handler, "message", "connection")))
        return handler
