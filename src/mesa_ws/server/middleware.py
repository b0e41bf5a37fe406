"""Middleware: the hooks that it may have, and how they are registered."""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, InvalidSettings, Reject
from ..handlers.caller import Handler, checked, is_async, name_of
from ..messages.message import Message
from ..text import plain
from .registrations import HandlerList, Handlers

if TYPE_CHECKING:
    from .connection import Connection


class Middleware:
    """A reusable part of a server: pass it to `server.use`.

    Override any of these methods; the others cost nothing. A class with another base works as well,
    if it has methods of these names. Each is `async def`, which runs in the event loop, or `def`,
    which runs in a thread unless its description says otherwise.

    The server calls several middlewares in the order in which they were passed to `server.use`. It
    calls `on_` hooks after the application's own handlers of the same event; it logs the errors that
    they raise and reports them to `on_error`, and they affect nothing else. It calls `before_` hooks
    first; they decide what is handled or sent.
    """

    # Hooks that may refuse or change.

    async def before_authentication(self, data: Any, connection: "Connection") -> Any:
        """Inspect the authentication data of a client before the authenticator does.

        The time it takes counts as the authenticator's. Raise `Refused` to refuse the client.

        Returns:
            Data for the authenticator instead of `data`; None to leave `data` unchanged.
        """

    async def before_message(self, message: Message, connection: "Connection") -> Message | None:
        """Inspect a message from a client before it is handled.

        If the hook raises, the message is not handled. `Refused` and `RequestError` are decisions, with
        which the server answers a request; it counts and reports `Reject` as well. Any other exception
        is an error, which the server reports.

        Returns:
            The message to handle; None to drop it silently.
        """
        return message

    def before_send(self, message: Message, connection: "Connection | None") -> Message | None:
        """Inspect a message before code of this server sends it.

        The code sends with `server.send`, `server.request` or `connection.send`, or answers a request.
        Messages of dispatchers and portals do not pass this hook.

        Called in the thread that sends, so it is `def` and must not wait. The sender gets the exception
        that it raises, `Refused` for example; for an answer, the client gets it as if the handler had
        raised it.

        Args:
            message: to be sent.
            connection: that `connection.send` or an answer goes to; otherwise None.

        Returns:
            The message to send; None to send nothing. Then a request or an answer fails.
        """
        return message

    # Hooks about events.

    async def on_connection(self, connection: "Connection") -> None:
        """Called when a client has connected."""

    async def on_authenticated(self, connection: "Connection") -> None:
        """Called when a client got the answer to its login."""

    async def on_message_received(self, message: Message, connection: "Connection") -> None:
        """Called when the application's handlers have handled a message of a client."""

    def on_message_sent(
        self, message: Message, connections: Sequence["Connection"], from_this_node: bool
    ) -> None:
        """Called when a message was written to connections of this server, one at least.

        Requests, answers and replies of portals are such messages; frames of the protocol are not,
        nor are messages that clients get later from their outboxes. As `def` it is called at once in
        the event loop, for every message, and must not wait. As `async def` it is called in order
        later, and holds up no other hook; while 10 000 calls wait, further ones are dropped and
        counted in a warning.

        Args:
            message: that was sent, without the number that it has for each connection.
            connections: that get it; one that reads slowly gets it later, or after it reconnects.
            from_this_node: whether this server's own code sent it, and not a dispatcher or another
                server.
        """

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        """Called when a message that this server sent was stored for `ids`, which have no connection."""

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: "Connection"
    ) -> None:
        """Called when a client that has logged in gets its stored messages, perhaps none.

        A long backlog comes in several calls, as it is read.
        """

    async def on_disconnection(self, connection: "Connection", code: int, reason: str) -> None:
        """Called when a connection has ended; the last call for it."""

    async def on_error(self, error: Exception, connection: "Connection | None") -> None:
        """Called when a handler or a hook raised. An error of this hook itself is only logged."""

    async def on_rejected(self, rejection: Reject, message: Message, connection: "Connection") -> None:
        """Called when a handler or a `before_message` hook rejected a message; see `Server.on_rejected`."""

    async def on_online(self, id: str) -> None:
        """Called when an id has its first connection in the cluster; see `Server.on_online`."""

    async def on_offline(self, id: str) -> None:
        """Called when an id has had no connection for a while; see `Server.on_offline`."""

    async def on_lost(self, id: str, count: int) -> None:
        """Called when stored messages to an id of a 1.x client were dropped; see `Server.on_lost`."""

    async def on_forked(self, since: float) -> None:
        """Called when Redis may have lost writes confirmed after `since`; see `Server.on_forked`."""

    async def on_portal_join(self, id: str) -> None:
        """Called when a portal has joined, or was there when this server started.

        Every server with portals calls it, within a heartbeat.
        """

    async def on_portal_leave(self, id: str) -> None:
        """Called when a portal has left or its lease has ended; like `on_portal_join`."""

    async def on_stop(self) -> None:
        """Called when the server is about to stop; see `Server.on_stop`."""


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """Return the key `mesa:{<namespace>}:mw:<name>[:<part>...]`, which no other key of Mesa looks like.

    All keys of a namespace are in one slot of a Redis Cluster, so a script may use several.

    Args:
        namespace: of the server.
        name: of the middleware: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: tell its keys apart; any text, such as an id.

    Raises:
        InvalidInput: a name or a part cannot be used.
    """
    name, parts = _checked(name, parts)
    return ":".join((f"mesa:{{{plain(namespace) or ''}}}:mw", name, *parts))


def mesa1_middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """Return the key `<part>[:<part>...]_mw-<name>[_<namespace>]`, as 1.x names it.

    The parts are the prefix of 1.x: data that a middleware of the npm package stored under the prefix
    `unread` is found with the one part `unread`.

    Args:
        namespace: of the server.
        name: of the middleware: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: purpose of the key, at least one; several are joined by colons.

    Raises:
        InvalidInput: a name or a part cannot be used, or there is none.
    """
    name, parts = _checked(name, parts)
    if not parts:
        raise InvalidInput("parts: expected at least one, as keys of 1.x begin with their purpose; got none")
    key = f"{':'.join(parts)}_mw-{name}"
    return f"{key}_{plain(namespace)}" if namespace else key


def _checked(name: object, parts: Iterable[Any]) -> tuple[str, tuple[str, ...]]:
    name, parts = plain(name), tuple(plain(part) for part in parts)
    if not (isinstance(name, str) and _NAME.match(name)):
        raise InvalidInput(f"name: expected 1 to 64 of A-Z a-z 0-9 _ . -, got {name!r}")
    for part in parts:
        if not _is_text(part):
            raise InvalidInput(f"parts: expected text that is not empty, got {part!r}")
    return name, parts


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


log = logging.getLogger("mesa_ws.server")

_PREFIXES = ("on_", "before_")

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

_KINDS: Mapping[str, str] = {
    "before_authentication": "before_authentication",
    "before_message": "before_message",
    "before_send": "before_send",
    "on_authenticated": "authentication",
    "on_connection": "connection",
    "on_disconnection": "disconnection",
    "on_error": "error",
    "on_forked": "forked",
    "on_lost": "lost",
    "on_message_received": "message_received",
    "on_message_sent": "sent",
    "on_offline": "offline",
    "on_online": "online",
    "on_portal_join": "portal_join",
    "on_portal_leave": "portal_leave",
    "on_rejected": "rejected",
    "on_redeliver_undeliverable_messages": "redelivered",
    "on_stop": "stop",
    "on_undeliverable_message_sent": "undeliverable",
}
"""The list in `Handlers` that each hook belongs to."""


def create(middleware: object, server: object) -> object:
    """Return the object with the hooks: `middleware` itself, or the one that it makes for `server`.

    A class or a function is called, with the server if it needs an argument.

    Raises:
        InvalidSettings: a hook cannot be called, or is `async def` where it must not wait.
    """
    if not callable(middleware) or (not isinstance(middleware, type) and hooks_of(middleware)):
        return middleware
    try:
        parameters = inspect.signature(middleware).parameters.values()
    except ValueError:  # written in C
        parameters = {}.values()
    needs_server = any(each.default is each.empty and each.kind in _BY_PLACE for each in parameters)
    return middleware(server) if needs_server else middleware()


def hooks_of(middleware: object) -> dict[str, Handler]:
    """Return the hooks that a middleware defines.

    Raises:
        InvalidSettings: one of them cannot be called, or is `async def` where it must not wait.
    """
    found = {name: getattr(middleware, name, None) for name in _KINDS}
    hooks = {name: hook for name, hook in found.items() if hook is not None and not _does_nothing(name, hook)}
    for name, hook in hooks.items():
        checked(f"middleware.{name}", hook, *_arguments_of(name))
    if "before_send" in hooks and is_async(hooks["before_send"]):
        raise InvalidSettings("middleware.before_send", "a `def`, as senders do not wait", "an `async def`")
    return hooks


def register(handlers: Handlers, middleware: object) -> None:
    """Register the hooks of a middleware.

    Raises:
        InvalidSettings: it has no hook.
    """
    hooks = hooks_of(middleware)
    if not hooks:
        raise InvalidSettings("middleware", _EXPECTED, middleware)
    _warn_of_unknown(middleware)
    for name, hook in hooks.items():
        calls: HandlerList[Any] = getattr(handlers, _KINDS[name])
        calls.append_last((hook, is_async(hook)) if name == "on_message_sent" else hook)


def _arguments_of(name: str) -> list[str]:
    """Return the arguments of a hook, as `Middleware` declares them."""
    _, *arguments = inspect.signature(getattr(Middleware, name)).parameters
    return arguments


def _does_nothing(name: str, hook: object) -> bool:
    """Return whether a hook is the empty one that `Middleware` declares."""
    return getattr(hook, "__func__", hook) is getattr(Middleware, name)


def _warn_of_unknown(middleware: object) -> None:
    for name in dir(middleware):
        if _is_meant(name) and name not in _KINDS:
            log.warning(
                "middleware %s: there is no hook %s, it will not be called; there are %s",
                name_of(type(middleware)),
                name,
                ", ".join(_KINDS),
            )


def _is_meant(name: str) -> bool:
    """Return whether a name looks like that of a hook, here or in 1.x."""
    return name.startswith(_PREFIXES) or (name.startswith("on") and name[2:3].isupper())


_EXPECTED = f"a class, a function or an object with at least one of {', '.join(_KINDS)}"
