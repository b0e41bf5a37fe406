"""The setting `MESA`, and what a server needs of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections
from django.utils.module_loading import import_string

from ... import Server
from ...backend.urls import DEFAULT_URL

DEFAULTS: Mapping[str, Any] = {
    "URL": DEFAULT_URL,
    "NAMESPACE": None,
    "SYNC": False,
    "WIRE": "native",
    "DISPATCHER": {},
    "SERVER": {},
    "AUTHENTICATOR": "mesa_ws.contrib.django.authenticate_session",
    "TOKEN_AGE": 24 * 60 * 60,
}


def configured() -> dict[str, Any]:
    """Return the setting `MESA` with its defaults.

    Raises:
        ImproperlyConfigured: it is no dictionary, or has other keys.
    """
    given = getattr(settings, "MESA", {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"MESA: expected a dictionary, got {type(given).__name__}")
    unknown = [str(key) for key in given if key not in DEFAULTS]
    if unknown:
        raise ImproperlyConfigured(
            f"MESA: expected keys among {', '.join(DEFAULTS)}, got {', '.join(unknown)}"
        )
    return {**DEFAULTS, **given}


def shared_options(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that dispatchers and servers have in common."""
    return {name.lower(): found[name] for name in ("NAMESPACE", "SYNC", "WIRE")}


def make_server(**options: Any) -> Server:
    """Make the server that the setting `MESA` describes, with its authenticator.

    Where `MESA["SERVER"]` names a server of the project, returns that, and takes no options.

    Args:
        options: arguments of `Server` besides those of the setting.

    Raises:
        ImproperlyConfigured: the setting is wrong, or there are options for a server that is made.
        ImportError: what it names cannot be imported.
        InvalidSettings: the server cannot use it.
    """
    found = configured()
    if isinstance(found["SERVER"], str):
        if options:
            raise ImproperlyConfigured(
                f'MESA["SERVER"]: expected a dictionary, to make a server with {", ".join(options)}, '
                f"got the path {found['SERVER']!r} of one that is made"
            )
        server = import_string(found["SERVER"])
        if not isinstance(server, Server):
            raise ImproperlyConfigured(f'MESA["SERVER"]: expected a Server, got {type(server).__name__}')
        return server
    server = Server(found["URL"], **{**shared_options(found), **found["SERVER"], **options})
    server.authenticator(import_string(found["AUTHENTICATOR"]))
    return server


@contextmanager
def database() -> Iterator[None]:
    """Close connections to the database that are too old, as Django does around a request.

    For handlers of a server or a portal that use the ORM; also a decorator:

    ```python
    @portal.on_message("CONFIRM")
    @database()
    def confirm(event): ...
    ```
    """
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
