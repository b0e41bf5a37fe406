"""The decorators by which an application registers its handlers."""

from collections.abc import Callable
from typing import Any, overload

from ..errors import InvalidSettings
from ..handlers.caller import AnyHandler, add_checked, checked, for_messages, name_of
from .middleware import create, register
from .rates import ClientRates, RateLimit
from .registrations import Handlers


class Hooks:
    """Register handlers; each decorator returns the function unchanged.

    A handler is `async def`, or `def` to run in a thread. An error that it raises is logged and reported
    to `on_error`, and affects no other connection. A function with the wrong parameters raises
    `InvalidSettings` at once.
    """

    def __init__(self, handlers: Handlers, rates: ClientRates) -> None:
        self._handlers = handlers
        self.rates = rates

    def authenticator(self, handler: AnyHandler) -> AnyHandler:
        """Register the function that turns authentication data into a `User`.

        The server calls it with the data that the client sent and the connection. Returning None or
        raising `Refused` refuses the client for good (close code 1008). Any other exception, and
        taking longer than `Authentication.timeout`, is reported and closes with 1011, after
        which the client may reconnect.

        Raises:
            InvalidSettings: there is one already.
        """
        if self._handlers.authenticator is not None:
            raise InvalidSettings("authenticator", "one function", f"a second one, {name_of(handler)}")
        self._handlers.authenticator = checked("authenticator", handler, "data", "connection")
        return handler

    def on_connection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection)`, called before any other handler of that connection."""
        return add_checked(self._handlers.connection, "on_connection", handler, "connection")

    def on_authentication(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection)`, called after the client got the answer to its login."""
        return add_checked(self._handlers.authentication, "on_authentication", handler, "connection")

    @overload
    def on_message(self, handler: AnyHandler, /) -> AnyHandler: ...

    @overload
    def on_message(self, type: str, /) -> Callable[[AnyHandler], AnyHandler]: ...

    def on_message(self, handler_or_type: Any, /) -> Any:
        """Register `handler(message, connection)`, for all messages or for those of one type.

        Used as `@server.on_message` or as `@server.on_message("PING")`. The handler answers a request
        by returning a `Message`, or data for a message of the request's type. The first handler that
        returns something other than None decides, and so does one that raises: the client gets the
        code and text of a `RequestError`, and of any other error only that the request failed. The
        server ignores the return value for a message that is no request. It calls no further handler
        after one that raises `Reject`.
        """
        return for_messages(
            "on_message", handler_or_type, self._handlers.message.append, "message", "connection"
        )

    def on_disconnection(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(connection, code, reason)`, the last call for a connection."""
        return add_checked(
            self._handlers.disconnection, "on_disconnection", handler, "connection", "code", "reason"
        )

    def on_online(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id)`, called when an id gets its first connection in the whole cluster.

        One node of the cluster calls it, once for each change. Calls about one id come one after
        another. A client that reconnects within `Presence.grace` was not away.
        """
        return add_checked(self._handlers.online, "on_online", handler, "id")

    def on_offline(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id)`, called when an id has had no connection for `Presence.grace`.

        Called like `on_online`; also when the node that held the id died.
        """
        return add_checked(self._handlers.offline, "on_offline", handler, "id")

    def on_lost(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(id, n)`, called when `n` stored messages to an id were dropped unreceived.

        Only for clients of 1.x, which the server cannot notify; once for each loss.
        """
        return add_checked(self._handlers.lost, "on_lost", handler, "id", "n")

    def on_forked(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(since)`, called when Redis may have lost writes that it had confirmed.

        Redis restarted, or a replica took over. It kept the writes that it confirmed before `since`, as
        far as it ever does; of the later ones, the newest may be lost: stored messages to any id, and who
        is online. `since` is Unix time of Redis's clock, a few seconds before the failure, or 0 if no
        data is left. An application that knows which messages it dispatched since then can dispatch them
        again, with the same `idempotency_key`. The server notifies clients on wire 2 by itself.

        One node of the cluster calls it, once each time; another one does too if the first dies during
        the call. It is also called after a restart or a failover without any loss, because Redis does not
        say which it was.
        """
        return add_checked(self._handlers.forked, "on_forked", handler, "since")

    def on_error(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(error, connection)`, called when a handler raised.

        The connection is None where the handler was about an id.
        """
        return add_checked(self._handlers.error, "on_error", handler, "error", "connection")

    def on_rejected(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler(rejection, message, connection)`, called when a message was rejected.

        A handler of the message or a middleware has raised `Reject`. Messages that a portal rejects are
        reported in the portal.
        """
        return add_checked(
            self._handlers.rejected, "on_rejected", handler, "rejection", "message", "connection"
        )

    def on_stop(self, handler: AnyHandler) -> AnyHandler:
        """Register `handler()`, called when the server is about to stop, before clients are closed.

        `connection.send` still reaches the clients; messages through the cluster may come too late
        for those of this server. All these handlers together get five seconds; then the server stops
        without waiting longer.
        """
        return add_checked(self._handlers.stop, "on_stop", handler)

    def use(self, middleware: object) -> Any:
        """Add a middleware: an object with some of the methods of `Middleware`, or a `RateLimit`.

        `use` calls a class, or a function without such methods, to make the object, with the server if
        it needs an argument.

        Returns:
            The object.

        Raises:
            InvalidSettings: the object has none of the methods, or one of them cannot be called.
        """
        used = create(middleware, self)
        if isinstance(used, RateLimit):
            self.rates.limits.append(used)
        else:
            register(self._handlers, used)
        return used
