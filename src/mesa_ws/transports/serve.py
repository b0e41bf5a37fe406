"""Running a server: in the caller's event loop, or as a process of its own."""

import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from ssl import SSLContext
from typing import Any, NamedTuple

from ..errors import MesaError
from ..server.node import Node
from ..text import plain
from .announce import announce
from .listening import HostOrHosts, authority
from .native import NativeListener
from .signals import run_until_signal

log = logging.getLogger("mesa_ws.server")

LIMIT = 20.0
"""Seconds that `run` gives a server to stop, handlers and services included, before it is left behind."""

_NOT_MAIN_THREAD = (
    "server.run: expected the main thread, which signals go to, got another one; "
    "use async with serve(server, ...) in an event loop of that thread"
)

Service = AbstractAsyncContextManager[Any]
"""Something that runs beside a server, such as `DispatchApi`: entered after it, left before it."""


class Server(Node):
    """A WebSocket server.

    Register handlers with its decorators, then `run` it, or `serve` it in a loop of your own.
    `send` belongs to that loop; a `Connection` may be used from any thread.

    Args:
        backend: what this server shares with others: None for one process alone, a Redis URI, a
            mapping of redis-py options, a redis-py client, or a `Backend`. As in 1.x, a list holds
            what belongs together: `[URI, options]` or `[port, host, options]`.
        options: `namespace`; `wire`, `"native"` or `"mesa1"` to share Redis with npm's @cryb/mesa 1.x;
            `import_from_1x`, to move what that left behind; and the features `heartbeat`, `reconnect`,
            `authentication`, `keepalive`, `limits`, `rules`, `sync`, `presence` and `portals`, each as
            its settings class, as a mapping of its fields, or as True or False where it can be enabled.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: an option asks for what this version does not have.
    """

    def run(
        self,
        host: HostOrHosts = "127.0.0.1",
        port: int = 4000,
        *services: Service,
        path: str | None = None,
        ssl: SSLContext | None = None,
        on_start: "Callable[[Endpoint], None] | None" = None,
    ) -> None:
        """Serve until SIGINT, SIGTERM or SIGQUIT, on uvloop where it exists; then stop cleanly.

        Clients are closed with 1001, those on wire 2 asked to come back at different times, and
        handlers get five seconds to finish. What does not end although it is cancelled (tasks,
        threads of the executor) is named in the log and left behind, so that this returns within
        30 seconds. A signal that comes before clients are served ends the start at once, and a
        second signal does not wait.

        Args:
            host: address or name to listen on, a list of them, or "" for every address of the machine.
            port: port to listen on, the same on every address; 0 for one that is free.
            services: what runs beside the server.
            path: the only path that is upgraded; None for all.
            ssl: context for TLS.
            on_start: called with the address once clients and services are served. Without it, the
                log says at INFO where clients connect, or stderr where no logging is set up.

        Raises:
            InvalidSettings: an argument is wrong.
            ListenFailed: the address cannot be listened on.
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend says no.
            MesaError: it runs already, or this is not the main thread, which signals go to.
        """
        if threading.current_thread() is not threading.main_thread():
            raise MesaError(_NOT_MAIN_THREAD)
        serving = serve(self, host, port, *services, path=path, ssl=ssl)
        run_until_signal(serving, on_start or _announce, LIMIT)


class Endpoint(NamedTuple):
    """Where a server listens, as clients on this machine reach it.

    Attributes:
        url: what clients connect to.
        host: the first of its hosts; `localhost` for every address.
        port: the real one where 0 was asked for.
    """

    url: str
    host: str
    port: int


@asynccontextmanager
async def serve(
    server: Server,
    host: HostOrHosts = "127.0.0.1",
    port: int = 0,
    *services: Service,
    path: str | None = None,
    ssl: SSLContext | None = None,
) -> AsyncIterator[Endpoint]:
    """Serve in the running event loop for as long as the block lasts.

    Args:
        server: what to serve.
        host: address or name to listen on, a list of them, or "" for every address of the machine.
        port: port to listen on, the same on every address; 0 for one that is free.
        services: what runs beside the server.
        path: the only path that is upgraded; None for all.
        ssl: context for TLS.

    Yields:
        Where it listens, with the URL that clients connect to.

    Raises:
        InvalidSettings: an argument is wrong.
        ListenFailed: the address cannot be listened on.
        BackendUnavailable: the backend cannot be reached.
        BackendRefused: the backend says no.
        MesaError: the server is running already.
    """
    listener = NativeListener(server, path)
    await server.start()
    try:
        bound = await listener.start(host, port, ssl)
        async with AsyncExitStack() as running:
            for service in services:
                await running.enter_async_context(service)
            try:
                yield Endpoint(_url(*bound, path, ssl), *bound)
            finally:
                listener.stop_accepting()
    finally:
        listener.stop_accepting()
        await server.stop()
        await listener.wait_closed()


def _announce(endpoint: Endpoint) -> None:
    announce(log, f"clients at {endpoint.url}")


def _url(host: str, port: int, path: str | None, ssl: SSLContext | None) -> str:
    return f"{'wss' if ssl else 'ws'}://{authority(host, port)}{plain(path) or '/'}"
