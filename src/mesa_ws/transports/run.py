"""Run servers and portals, in the caller's event loop or as processes of their own.

As in 1.x, SIGINT, SIGTERM and SIGQUIT end a process:

starting ──up──▶ running ──signal──▶ stopping, within a limit ──▶ ended
    └──────signal: cancelled at once──────────────────────────────▶ ended

After a second signal the process does not wait. The log names work that does not end in time.
"""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import cached_property
from ssl import SSLContext
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from ..concurrency.blocking import has_event_loop
from ..concurrency.left_behind import report_tasks
from ..concurrency.tasks import start
from ..errors import MesaError
from ..portal.worker import Worker
from ..server.node import Node
from ..settings import Count, Settings
from ..text import plain
from ..version import __version__
from .asgi import AsgiApplication, Scope
from .asgi_socket import Receive, Send
from .event_loop import CANCEL_GRACE, PlainLoop, new_event_loop, own_event_loop
from .listening import HostOrHosts, advertised_host, authority
from .server_socket import NativeListener


def announce(log: logging.Logger, text: str) -> None:
    """Log `text` at INFO; where no logging is set up, write it to stderr, where it is seen."""
    if log.hasHandlers():
        log.info("%s", text)
    else:
        sys.stderr.write(f"mesa {__version__}: {text}\n")
        sys.stderr.flush()


Entered = TypeVar("Entered")
Result = TypeVar("Result")

Heed = Callable[["asyncio.Task[Any]"], float]
"""Passes a signal on to the work; returns the seconds that the work gets to end."""

log = logging.getLogger("mesa_ws.server")


class Interrupted(Exception):
    """A signal ended the work.

    Attributes:
        exit_code: the exit code that shells expect after this signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


def run_until_signal(
    running: AbstractAsyncContextManager[Entered],
    on_start: Callable[[Entered], Any] | None,
    limit: float,
) -> None:
    """Stay inside `running`, in an event loop of its own, until a signal arrives.

    A signal that arrives before `running` was entered cancels the entering.

    Args:
        running: entered, and left after the signal.
        on_start: called with the value that entering gave.
        limit: seconds that leaving may take.

    Raises:
        MesaError: an event loop runs in this thread.
    """
    stop = asyncio.Event()
    is_up = False

    async def stay() -> None:
        nonlocal is_up
        async with running as entered:
            is_up = True
            if on_start is not None:
                on_start(entered)
            await stop.wait()

    def heed(task: "asyncio.Task[Any]") -> float:
        stop.set()
        if is_up:
            return limit
        task.cancel()
        return CANCEL_GRACE

    if has_event_loop():
        raise MesaError(
            "run: expected a thread without an event loop, got one that runs; use `async with` in it"
        )
    try:
        run_interruptible(stay(), heed)
    except Interrupted:
        return


def run_interruptible(
    work: Coroutine[Any, Any, Result], heed: Heed, make: Callable[[], PlainLoop] = new_event_loop
) -> Result:
    """Run `work` in an event loop of its own, which a signal may end.

    A handler that exits ends it like a signal, a second one at once.

    Raises:
        Interrupted: a signal arrived, and the work was cancelled or did not end.
        SystemExit: a handler has called `sys.exit()`.
    """
    with own_event_loop(make) as loop, _signals(loop) as came:
        supervising = start(_supervise(work, came, heed), loop=loop)
        try:
            return loop.run_until_complete(supervising)
        except SystemExit:
            if not came.done():
                came.set_result(signal.SIGTERM)
            with suppress(Interrupted):
                loop.run_until_complete(supervising)
            raise


async def _supervise(work: Coroutine[Any, Any, Result], came: "asyncio.Future[int]", heed: Heed) -> Result:
    task = start(work)
    first: set[asyncio.Future[Any]] = {task, came}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        await asyncio.wait({task}, timeout=heed(task))
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_GRACE)
    if came.done() and (not task.done() or task.cancelled()):
        report_tasks(log, {task})
        raise Interrupted(came.result())
    return task.result()


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop) -> "Iterator[asyncio.Future[int]]":
    """Catch the first signal; the second one has its usual effect.

    Signals are caught outside the event loop, so that the second one works while the loop is blocked.
    """
    came = loop.create_future()
    before = {signum: signal.getsignal(signum) for signum in _DEFAULTS}

    def arrived(signum: int) -> None:
        if not came.done():
            came.set_result(signum)

    def on_signal(signum: int, frame: object) -> None:
        _set(_DEFAULTS)
        loop.call_soon_threadsafe(arrived, signum)

    _set(dict.fromkeys(_DEFAULTS, on_signal))
    try:
        yield came
    finally:
        _set(before)


_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGQUIT: signal.SIG_DFL,
}


def _set(handlers: dict[signal.Signals, Any]) -> None:
    for signum, handler in handlers.items():
        signal.signal(signum, signal.SIG_DFL if handler is None else handler)


def _check_main_thread(what: str, instead: str) -> None:
    if threading.current_thread() is not threading.main_thread():
        raise MesaError(
            f"{what}: expected the main thread, which signals go to, got another one; "
            f"use {instead} in an event loop of that thread"
        )


LIMIT = 20.0
"""Seconds that `run` gives a server to stop, handlers and services included; then it returns anyway."""

Service = AbstractAsyncContextManager[Any]
"""A service that runs with a server, such as `DispatchApi`: entered after it, left before it."""


FOR_APPLICATIONS = (
    *("authenticator", "on_connection", "on_authentication", "on_message", "on_disconnection", "on_online"),
    *("on_offline", "on_lost", "on_forked", "on_stop", "on_rejected", "on_error", "use", "middleware_key"),
    *("send", "send_blocking", "request", "request_blocking", "disconnect", "revoke"),
    *("presence", "presence_blocking", "run", "start", "stop"),
    *("namespace", "connections", "lost", "is_running", "is_ready"),
)
"""Members of a server that its application uses; the others belong to the server itself."""


GC_THRESHOLD = 5000
"""Objects that are made before the garbage collector examines the new ones: some milliseconds of its work."""

_GC_FACTORS = 2, 500
"""Runs of the collector on new objects before one on older ones, and runs on those before one on all."""


class _Collector(Settings, frozen=True, kw_only=True):
    _prefix: ClassVar[str] = ""
    gc_threshold: Count | None


@asynccontextmanager
async def _collecting_rarely(
    running: AbstractAsyncContextManager[Entered], threshold: int | None
) -> AsyncIterator[Entered]:
    """Stay inside `running`, where the garbage collector runs rarely, and not on what was there before."""
    before = gc.get_threshold()
    try:
        async with running as entered:
            if threshold is not None:
                gc.collect()
                gc.freeze()
                gc.set_threshold(threshold, *_GC_FACTORS)
            yield entered
    finally:
        if threshold is not None:
            gc.set_threshold(*before)
            gc.unfreeze()


class _Listing(type):
    """Metaclass that leaves the other members out of `dir(Server)`, and so out of completion."""

    def __dir__(cls) -> list[str]:
        internal = {name for name in dir(Node) if not name.startswith("__")} - set(FOR_APPLICATIONS)
        return [name for name in super().__dir__() if name not in internal]


class Server(Node, metaclass=_Listing):
    """A WebSocket server.

    Register handlers with its decorators, then `run` it, or `serve` it in a loop of your own, or mount it: it
    is an ASGI application. `send` belongs to that loop; a `Connection` may be used from any thread.

    Args:
        backend: the backend that this server shares with others: None for one process alone, a Redis
            URI, a mapping of redis-py options, a redis-py client, a `MemoryHub` for several in one
            process, or a `Backend`. As in 1.x, a list may hold the parts of an address:
            `[URI, options]` or `[port, host, options]`.
        options: `namespace`; `allowed_origins`, the origins of web pages that may connect; `wire`,
            `"native"` or `"mesa1"` to share Redis with npm's @cryb/mesa 1.x; `import_from_1x`, to move the
            data that 1.x left; `trusted_proxies` and `proxy_header`, for the addresses of clients behind
            proxies; and the features `heartbeat`, `reconnect`, `authentication`, `keepalive`,
            `limits`, `rules`, `sync`, `presence` and `portals`, each as its settings class, as a mapping of
            its fields, or as True or False where it can be enabled.

    Raises:
        InvalidSettings: an option is unknown or wrong.
        Unsupported: this version does not support an option.
    """

    def __dir__(self) -> list[str]:
        return [*vars(self), *dir(type(self))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve as an ASGI application, such as one that a web framework mounts.

        `docs/howto/one-port.md` shows how. The first connection starts the server, unless a lifespan has.
        """
        await self._asgi(scope, receive, send)

    async def __aenter__(self) -> Self:
        """Start the server without a port of its own, for connections that come by ASGI.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refuses.
            MesaError: the server is running already.
        """
        await self.start()
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server: close its connections, let handlers finish, and leave the cluster."""
        await self.stop()
        await self._asgi.wait_closed()

    @cached_property
    def _asgi(self) -> AsgiApplication:
        return AsgiApplication(self)

    def run(
        self,
        host: HostOrHosts = "127.0.0.1",
        port: int = 4000,
        *services: Service,
        path: str | None = None,
        ssl: SSLContext | None = None,
        on_start: "Callable[[Endpoint], None] | None" = None,
        gc_threshold: int | None = GC_THRESHOLD,
    ) -> None:
        """Serve until SIGINT, SIGTERM or SIGQUIT, on uvloop where it exists; then stop cleanly.

        Clients are closed with 1001, those on wire 2 asked to come back at different times, and
        handlers get five seconds to finish. The log names tasks, and threads of the executor, that
        do not end although they are cancelled; `run` does not wait for them, and returns within 30
        seconds. A signal that arrives before clients are served ends the start at once; after a
        second signal, `run` does not wait.

        Args:
            host: address or name to listen on, a list of them, or "" for every address of the machine.
            port: port to listen on, the same on every address; 0 for one that is free.
            services: services that run with the server.
            path: the only path that is upgraded; None for all.
            ssl: context for TLS.
            on_start: called with the address once clients and services are served. Without it, the
                address is logged at INFO, or written to stderr where no logging is set up.
            gc_threshold: objects that are made before Python's garbage collector examines the new ones;
                it examines all only after a thousand times as many, and never those made before the
                start. Mesa needs no collector, and each run of it halts the server. None leaves the
                collector as it is.

        Raises:
            InvalidSettings: an argument is wrong.
            ListenFailed: the server cannot listen on the address.
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refuses.
            MesaError: it runs already, or this is not the main thread, which signals go to.
        """
        _check_main_thread("server.run", "async with serve(server, ...)")
        threshold = _Collector.of({"gc_threshold": gc_threshold}).gc_threshold
        serving = _collecting_rarely(serve(self, host, port, *services, path=path, ssl=ssl), threshold)
        run_until_signal(serving, on_start or _announce, LIMIT)


class Endpoint(NamedTuple):
    """The address of a server, as clients on this machine reach it.

    Attributes:
        url: the URL that clients connect to.
        host: the first of its hosts; `localhost` for every address.
        port: its port; the real one where 0 was asked for.
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
        server: the server.
        host: address or name to listen on, a list of them, or "" for every address of the machine.
        port: port to listen on, the same on every address; 0 for one that is free.
        services: services that run with the server.
        path: the only path that is upgraded; None for all.
        ssl: context for TLS.

    Yields:
        The address of the server, with the URL that clients connect to.

    Raises:
        InvalidSettings: an argument is wrong.
        ListenFailed: the server cannot listen on the address.
        BackendUnavailable: the backend cannot be reached.
        BackendRefused: the backend refuses.
        MesaError: the server is running already.
    """
    listener = NativeListener(server, path)
    await server.start()
    try:
        addresses = await listener.start(host, port, ssl)
        bound = advertised_host(host), addresses[0][1]
        server.http_url = f"{'https' if ssl else 'http'}://{authority(*bound)}"
        server.plain_addresses = [] if ssl else [address for address, _ in addresses]
        async with AsyncExitStack() as running:
            for service in services:
                await running.enter_async_context(service)
            try:
                yield Endpoint(_url(*bound, path, ssl), *bound)
            finally:
                listener.stop_accepting()
    finally:
        server.http_url = ""
        listener.stop_accepting()
        await server.stop()
        await listener.wait_closed()


def _announce(endpoint: Endpoint) -> None:
    announce(log, f"clients at {endpoint.url}")


def _url(host: str, port: int, path: str | None, ssl: SSLContext | None) -> str:
    return f"{'wss' if ssl else 'ws'}://{authority(host, port)}{plain(path) or '/'}"


PORTAL_LIMIT = 20.0
"""Seconds that `run` gives a portal to stop, handlers included; then it returns anyway."""

portal_log = logging.getLogger("mesa_ws.portal")


class Portal(Worker):
    """Handles the events of clients, in a process apart from the servers.

    Servers with `Server(portals=True)` keep the events of their connections until a portal has
    handled them. Any number of portals share the events: each handles those of its part of the
    connections, and takes over from portals that leave or die. Events of one connection are handled
    one after another, in order, those of different connections at the same time; each at least once,
    unless its handlers raised five times.

    Register handlers with its decorators, then `run` it, or enter it with `async with` in a loop of
    your own.

    Args:
        url: a Redis URI, a mapping of redis-py options or a redis-py client; or the `MemoryHub` or
            the `MemoryBackend` of servers in this process.
        namespace: that of the servers.
        wire: how the servers talk through Redis: `"native"`; or `"mesa1"` as @cryb/mesa 1.x does, with
            servers and portals of npm in the same cluster, and each event at most once.
        report_all_events: see the events of all portals, each once at most, and take no work from
            them; with wire `"mesa1"` it also gets its own part, as in 1.x.
        concurrency: events that are handled at the same time.
        handler_threads: plain `def` handlers that run at the same time.
        lease: seconds without a sign of life after which others take over from this portal.
        timeout: seconds for one call of the backend, connecting included.
        durability: where it has to be stored that the handling of an event begins, before handlers
            are called: `"memory"`, `"fsync"` or `"replicated"`, as for messages.

    Raises:
        InvalidSettings: an argument is wrong.
        Unsupported: the address is one of HTTP, or this wire or backend does not support the durability.
    """

    def run(self, on_start: Callable[[], None] | None = None) -> None:
        """Work until SIGINT, SIGTERM or SIGQUIT, on uvloop where it exists; then hand over cleanly.

        Handlers get ten seconds to finish. The log names tasks that do not end although they are
        cancelled; `run` does not wait for them, and returns within 30 seconds. A signal that arrives
        while the portal starts ends the start at once; after a second signal, `run` does not wait.

        Args:
            on_start: called when the portal takes part. Without it, a line is logged at INFO, or
                written to stderr where no logging is set up.

        Raises:
            BackendUnavailable: the backend cannot be reached.
            BackendRefused: the backend refuses.
            MesaError: it runs already, or this is not the main thread, which signals go to.
        """
        _check_main_thread("portal.run", "async with portal")
        run_until_signal(self, lambda _: on_start() if on_start else self._announce(), PORTAL_LIMIT)

    def _announce(self) -> None:
        announce(portal_log, f"portal {self.portal_id} takes part")
