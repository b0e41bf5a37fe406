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
from ..settings import Count, Host, Port, Settings
from .listener import listen
from .routes import Dispatching, application

log = logging.getLogger("mesa_ws.server")

GRACE = 5
"""Seconds that requests under way get to finish when the API stops."""

KEEP_ALIVE = 75
"""Seconds for which a silent connection is kept, longer than our dispatchers keep theirs."""


class ApiSettings(Settings, frozen=True):
    """Where the dispatch API listens and how much it takes; see `DispatchApi`."""

    host: Host
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
        host: an address or a name of this machine; by default only this machine can connect.
        port: 0 for any that is free; see `url`.
        max_body: bytes of the largest request.

    Raises:
        InvalidSettings: the key cannot be used, or another setting is wrong.
    """

    def __init__(
        self,
        server: Dispatching,
        *,
        key: str,
        host: str = "127.0.0.1",
        port: int = 4001,
        max_body: int = 8 * 1024 * 1024,
    ) -> None:
        self._settings = ApiSettings(host=host, port=port, max_body=max_body)
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
        listener = listen(self._settings.host, self._settings.port)
        self._url = f"http://{_authority(self._settings.host, listener)}"
        self._service = _Service(self._app)
        self._task = asyncio.create_task(self._serve(self._service, listener), name="mesa dispatch API")
        log.info("dispatch API on %s", self._url)
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and let requests under way finish within `GRACE` seconds."""
        if self._service is not None and self._task is not None:
            self._service.should_exit = True
            await self._task

    async def _serve(self, service: "_Service", listener: socket.socket) -> None:
        with listener:
            await service.serve([listener])


class _Service(uvicorn.Server):
    """uvicorn as a guest: signals and the logging of the process stay as its host set them."""

    def __init__(self, app: Starlette) -> None:
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


def _authority(host: str, listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
