"""What a middleware may listen to, and what it may refuse or change."""

import inspect
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, InvalidSettings, Reject
from ..handlers import Handler, is_async, name_of
from ..handlers.caller import checked
from ..messages.message import Message
from ..text import plain
from .registrations import Calls, Handlers

if TYPE_CHECKING:
    from .connection import Connection


class Middleware:
    """A part of a server that can be reused: give it to `server.use`.

    Override any of these methods; the others cost nothing. A class of another base will do as well,
    if it has methods of these names. Each is `async def`, which runs in the event loop, or `def`,
    which runs in a thread, where it does not say otherwise.

    Several are called in the order in which they were given to `server.use`. What begins with
    `on_` is called after the application's own handlers of the same event; what it raises is
    logged, reported to `on_error`, and harms nobody else. What begins with `before_` is called
    first, and decides what goes on.
    """

    # What may refuse or change.

    async def before_authentication(self, data: Any, connection: "Connection") -> Any:
        """See what a client authenticates with, before the authenticator does.

        The time it takes counts as the authenticator's. Raise `Refused` to turn the client away.

        Returns:
            What the authenticator gets instead of `data`; None to leave it as it is.
        """

    async def before_message(self, message: Message, connection: "Connection") -> Message | None:
        """See a message from a client before it is handled.

        If it raises, the message is not handled. `Refused` and `RequestError` are decisions, with
        which a request is answered, `Reject` one that is counted and reported as well; anything else is
        an error, which is reported.

        Returns:
            The message that is handled; None to drop it without a word.
        """
        return message

    def before_send(self, message: Message, connection: "Connection | None") -> Message | None:
        """See a message before this server sends it, whichever way its code does.

        That is `server.send`, `server.request`, `connection.send`, and what a handler answers a request
        with. What others send, dispatchers and portals, does not come by here.

        Called in the thread that sends, so it is `def` and must not wait. What it raises, `Refused`
        for one, is raised to whoever sends; where that is an answer, the asker is told as if the
        handler had raised it.

        Args:
            message: what is to be sent.
            connection: whom `connection.send` or an answer goes to; else None.

        Returns:
            The message that is sent; None to send nothing, which a request or an answer fails of.
        """
        return message

    # What happened.

    async def on_connection(self, connection: "Connection") -> None:
        """A client has connected."""

    async def on_authenticated(self, connection: "Connection") -> None:
        """A client was told who it is."""

    async def on_message_received(self, message: Message, connection: "Connection") -> None:
        """A message of a client's was handled: the application's handlers are done with it."""

    def on_message_sent(
        self, message: Message, connections: Sequence["Connection"], from_this_node: bool
    ) -> None:
        """A message was handed to connections of this server; to none is not told.

        Requests, answers and what portals reply are such messages; frames of the protocol are not,
        nor is what clients get later from their outboxes. As `def` it is called at once in the
        event loop, for every message, and must not wait. As `async def` it is called in order
        later, and holds up no other hook; while 10 000 calls wait, further ones are dropped and
        counted in a warning.

        Args:
            message: what was sent, without the numbers that it has for each of them.
            connections: to whom; one that reads slowly gets it later, or in its next connection.
            from_this_node: whether this server's own code sent it, and not a dispatcher or another
                server.
        """

    async def on_undeliverable_message_sent(self, message: Message, ids: Sequence[str]) -> None:
        """A message that this server sent was stored for `ids`, who are connected nowhere."""

    async def on_redeliver_undeliverable_messages(
        self, messages: Sequence[Message], connection: "Connection"
    ) -> None:
        """A client has logged in, and gets what was stored for it until then, perhaps nothing.

        A long backlog is told in parts, as it is read.
        """

    async def on_disconnection(self, connection: "Connection", code: int, reason: str) -> None:
        """A connection has ended; the last that is told of it."""

    async def on_error(self, error: Exception, connection: "Connection | None") -> None:
        """A handler or a hook raised. What this one raises is logged, and goes no further."""

    async def on_rejected(self, rejection: Reject, message: Message, connection: "Connection") -> None:
        """A handler or a `before_message` hook has refused a message for good; see `Server.on_rejected`."""

    async def on_online(self, id: str) -> None:
        """An id has its first connection in the cluster; see `Server.on_online`."""

    async def on_offline(self, id: str) -> None:
        """An id has had no connection for a while; see `Server.on_offline`."""

    async def on_lost(self, id: str, count: int) -> None:
        """Stored messages to an id of a 1.x client were dropped; see `Server.on_lost`."""

    async def on_forked(self, since: float) -> None:
        """Redis may have forgotten what it confirmed after `since`; see `Server.on_forked`."""

    async def on_portal_join(self, id: str) -> None:
        """A portal has begun to take what clients send, or was there when this server started.

        Told on every server that has portals, within a heartbeat.
        """

    async def on_portal_leave(self, id: str) -> None:
        """A portal has ended, or its lease has; told like `on_portal_join`."""

    async def on_stop(self) -> None:
        """The server is about to stop; see `Server.on_stop`."""


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


def middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """The key `mesa:{<namespace>}:mw:<name>[:<part>...]`, which nothing else of Mesa's is named like.

    All keys of a namespace are in one slot of a Redis Cluster, so a script may use several.

    Args:
        namespace: the server's.
        name: the middleware's: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: what tells its keys apart; any text, such as an id.

    Raises:
        InvalidInput: a name or a part cannot be used.
    """
    name, parts = _checked(name, parts)
    return ":".join((f"mesa:{{{plain(namespace) or ''}}}:mw", name, *parts))


def mesa1_middleware_key(namespace: str | None, name: str, *parts: str) -> str:
    """The key `<part>[:<part>...]_mw-<name>[_<namespace>]`, as 1.x names it, whose prefix is the parts.

    So what a middleware of the npm package has kept under the prefix `unread` is found with
    the one part `unread`.

    Args:
        namespace: the server's.
        name: the middleware's: 1 to 64 of `A-Z a-z 0-9 _ . -`.
        parts: what the key is for, at least one; several are joined by colons.

    Raises:
        InvalidInput: a name or a part cannot be used, or there is none.
    """
    name, parts = _checked(name, parts)
    if not parts:
        raise InvalidInput("parts: expected what the key is for, as in every key of 1.x, got none")
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
"""Each hook, and what `Handlers` calls the list it belongs to."""


def made(middleware: object, server: object) -> object:
    """The object with the hooks: `middleware` itself, or what it makes for `server`.

    A class and a function are called, with the server if they need an argument.

    Raises:
        InvalidSettings: a hook cannot be called, or would have to be waited for.
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
    """The hooks that a middleware has of its own.

    Raises:
        InvalidSettings: one of them cannot be called, or would have to be waited for.
    """
    found = {name: getattr(middleware, name, None) for name in _KINDS}
    hooks = {name: hook for name, hook in found.items() if hook is not None and not _does_nothing(name, hook)}
    for name, hook in hooks.items():
        checked(f"middleware.{name}", hook, *_arguments_of(name))
    if "before_send" in hooks and is_async(hooks["before_send"]):
        raise InvalidSettings("middleware.before_send", "a `def`, as senders do not wait", "an `async def`")
    return hooks


def enlist(handlers: Handlers, middleware: object) -> None:
    """Let the hooks of a middleware be called from now on.

    Raises:
        InvalidSettings: it has none.
    """
    hooks = hooks_of(middleware)
    if not hooks:
        raise InvalidSettings("middleware", _EXPECTED, middleware)
    _warn_of_unknown(middleware)
    for name, hook in hooks.items():
        calls: Calls[Any] = getattr(handlers, _KINDS[name])
        calls.append_last((hook, is_async(hook)) if name == "on_message_sent" else hook)


def _arguments_of(name: str) -> list[str]:
    """What a hook is called with, as `Middleware` has it."""
    _, *arguments = inspect.signature(getattr(Middleware, name)).parameters
    return arguments


def _does_nothing(name: str, hook: object) -> bool:
    """Whether a hook is the one that `Middleware` has for those who do not care."""
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
    """Whether a name looks like that of a hook, here or in 1.x."""
    return name.startswith(_PREFIXES) or (name.startswith("on") and name[2:3].isupper())


_EXPECTED = f"a class, a function or an object with at least one of {', '.join(_KINDS)}"
