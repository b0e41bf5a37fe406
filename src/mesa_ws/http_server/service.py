"""uvicorn in the event loop of a server: an ASGI application on listening sockets of our own."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..concurrency.tasks import start
from ..transports.listening import Acceptor

log = logging.getLogger("mesa_ws.server")

RESERVE = 8
"""File descriptors that these connections leave to the rest of the process; fewer than clients leave."""


class HttpService:
    """Serves an application from `start` to `aclose`.

    The signal handlers and the logging of the process stay unchanged.

    Args:
        app: answers the requests.
        listeners: listening sockets; `aclose` closes them.
        name: name of the service in the log.
        who: name of its peers in the log.
        keep_alive: seconds for which an idle connection is kept.
        grace: seconds in which requests in progress may finish.
    """

    def __init__(
        self,
        app: Starlette,
        listeners: list[socket.socket],
        *,
        name: str,
        who: str,
        keep_alive: int,
        grace: int,
    ) -> None:
        self._name = name
        config = uvicorn.Config(
            app,
            http=_HttpConnection,
            ws="none",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=keep_alive,
            timeout_graceful_shutdown=grace,
        )
        self._server = _UvicornServer(config, listeners, name, who)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start to accept connections."""
        self._task = start(self._server.serve(), name=f"mesa {self._name}")

    async def aclose(self) -> None:
        """Stop listening, and let requests in progress finish."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task


class _UvicornServer(uvicorn.Server):
    """uvicorn's server for connections that our own `Acceptor` accepts."""

    def __init__(self, config: uvicorn.Config, listeners: list[socket.socket], name: str, who: str) -> None:
        super().__init__(config)
        self._name = name
        self._acceptor = Acceptor(listeners, self._arrive, who=who, reserve=RESERVE)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self._acceptor.start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._acceptor.close()
        await self._acceptor.wait_closed()
        await super().shutdown()

    async def _arrive(self, connection: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> "_HttpConnection":
        return _HttpConnection(self._name, config=self.config, server_state=self.server_state, app_state={})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _HttpConnection(H11Protocol):
    """uvicorn's connection without an access log. Its setting would disable that log in the whole process."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.access_log = False
        self._name = name

    def _unsupported_upgrade_warning(self) -> None:
        log.warning(
            "%s got a WebSocket request; clients have to connect to the server's own port", self._name
        )
