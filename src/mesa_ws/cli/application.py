"""What a module of the user's makes: the `Server` of `mesa serve`, the `Portal` of `mesa portal run`."""

import sys
from importlib import import_module
from os import getcwd
from types import ModuleType
from typing import TypeVar

import click

from ..errors import InvalidInput
from ..transports.portal import Portal
from ..transports.serve import Server
from .config.resolve import Resolved

Found = TypeVar("Found", Server, Portal)

_OURS = frozenset({"host", "port", "path"})
"""Settings of the command itself; also every one of the tables below."""

_OUR_TABLES = ("api.", "log.")


def application_server(name: str, resolved: Resolved) -> Server:
    """Import an application's server. Its module is looked for in the working directory first.

    Args:
        name: `module:server`, as in `shop.realtime:server`.
        resolved: what else was said; it must leave the server's own settings alone.

    Raises:
        UsageError: `name` has another form, or a flag contradicts the application.
        InvalidInput: there is no such server, or the file contradicts the application.
    """
    _check_left_alone(name, resolved)
    return _found(name, Server, "main:server")


def application_portal(name: str) -> Portal:
    """Import an application's portal, as `application_server` does a server.

    Args:
        name: `module:portal`, as in `shop.realtime:portal`.

    Raises:
        UsageError: `name` has another form.
        InvalidInput: there is no such portal.
    """
    return _found(name, Portal, "main:portal")


def _found(name: str, kind: type[Found], example: str) -> Found:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        what = f"APP:{example.partition(':')[2]}"
        raise click.UsageError(f"{what}: expected module:name, such as {example}, got {name!r}")
    found: object = _module(module_name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InvalidInput(
                f"{name}: expected a {kind.__name__}, got nothing: there is no {part!r} in {module_name}"
            )
        found = getattr(found, part)
    if not isinstance(found, kind):
        raise InvalidInput(f"{name}: expected a {kind.__name__}, got {type(found).__name__}")
    return found


def _module(name: str) -> ModuleType:
    sys.path.insert(0, getcwd())
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise InvalidInput(
            f"{name}: expected a module in {getcwd()} or on the path, got none of that name"
        ) from error


def _check_left_alone(name: str, resolved: Resolved) -> None:
    advice = f"{name} has settings of its own; set it there"
    for path, given in resolved.flags.items():
        if not _is_ours(path):
            raise click.UsageError(f"{given.where}: expected no settings of the server, got one; {advice}")
    for path, given in resolved.file.items():
        if not _is_ours(path):
            raise InvalidInput(f"{given.where}: expected no settings of the server, got one; {advice}")


def _is_ours(path: str) -> bool:
    return path in _OURS or path.startswith(_OUR_TABLES)
