"""Finding the hooks of a middleware, and adding them to the handlers."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from ..calling import Handler, is_async, name_of
from ..errors import InvalidSettings
from ..handler import checked
from .calls import Calls
from .handlers import Handlers
from .middleware import Middleware

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
