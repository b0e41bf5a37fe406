"""The dispatch API as a service beside a server: its own port, in the same event loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..bearer import SHORTEST_KEY, check_key
from ..concurrency.tasks import start
from ..settings import Count, Hosts, Port, Settings
from ..transports.accepting import Acceptor
from ..transports.listening import HostOrHosts, authority, listen
from .routes import Dispatching, application

log = logging.getLogger("mesa_ws.server")

GRACE = 5
"""Seconds that requests under way get to finish when the API stops."""

BACKLOG = 1024

RESERVE = 8
"""Descriptors that dispatchers leave to the rest of the process; fewer than clients do."""

KEEP_ALIVE = 75
"""Seconds for which a silent connection is kept, longer than our dispatchers keep theirs."""


class ApiSettings(Settings, frozen=True):
    """Where the dispatch API listens and how much it takes; see `DispatchApi`."""

    host: Hosts
    port: Port
    max_body: Count

    @classmethod
    def _path(cls, name: str) -> str:
        return f"api.{name}"


class DispatchApi:
    """Serves the HTTP dispatch API of a server while it is entered.

    Requests of one connection are answered in their order, and a batch keeps its own. Entering it
    again after it was left is fine.

    Args:
        server: where dispatches go, and whose health is told.
        key: what dispatchers have to show; 16 or more visible ASCII characters.
        host: an address or a name of this machine, a list of them, or "" for every address; by
            default only this machine can connect.
        port: the same on every address; 0 for one that is free, see `url`.
        max_body: bytes of the largest request.

    Raises:
        InvalidSettings: the key cannot be used, or another setting is wrong.
    """

    def __init__(
        self,
        server: Dispatching,
        *,
        key: str,
        host: HostOrHosts = "127.0.0.1",
        port: int = 4001,
        max_body: int = 8 * 1024 * 1024,
    ) -> None:
        self._settings = ApiSettings.of({"host": host, "port": port, "max_body": max_body})
        self._app = application(server, check_key(key, shortest=SHORTEST_KEY), max_body)
        self._url = ""
        self._service: _Service | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """What to give to a dispatcher, such as `http://127.0.0.1:4001`; empty before it was entered."""
        return self._url

    async def __aenter__(self) -> Self:
        """Listen and serve.

        Raises:
            ListenFailed: the port is in use, or the host is not of this machine.
        """
        host, port = self._settings.host, self._settings.port
        listeners = await listen(host, port, backlog=BACKLOG, who="the dispatch API ")
        self._url = f"http://{authority(host, listeners[0].getsockname()[1])}"
        self._service = _Service(self._app, listeners)
        self._task = start(self._service.serve(), name="mesa dispatch API")
        log.info("dispatch API on %s", self._url)
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and let requests under way finish within `GRACE` seconds."""
        if self._service is not None and self._task is not None:
            self._service.should_exit = True
            await self._task


class _Service(uvicorn.Server):
    """uvicorn as a guest: signals and the logging of the process stay as its host set them.

    It serves the connections that our own `Acceptor` accepts.
    """

    def __init__(self, app: Starlette, listeners: list[socket.socket]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )
        self._acceptor = Acceptor(listeners, self._arrive, who="dispatchers", reserve=RESERVE)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        await super().shutdown()

    async def _arrive(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> "_Connection":
        return _Connection(config=self.config, server_state=self.server_state, app_state={})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Connection(H11Protocol):
    """Without the access log. Switching it off in the settings would do so for the whole process."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False

    def _unsupported_upgrade_warning(self) -> None:
        log.warning("the dispatch API was asked for a WebSocket; clients connect to the server's own port")
