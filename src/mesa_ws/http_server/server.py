"""The dispatch API as a service of a server: on its own port, in the same event loop."""

import logging
from types import TracebackType
from typing import ClassVar, Self

from ..backend.http.auth import SHORTEST_KEY, check_key
from ..settings import Count, Hosts, Port, Settings
from ..transports.listening import HostOrHosts, authority, listen
from ..transports.run import Server
from .routes import application
from .service import HttpService

log = logging.getLogger("mesa_ws.server")

GRACE = 5
"""Seconds in which requests in progress may finish when the API stops."""

BACKLOG = 1024

KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept, longer than our dispatchers keep theirs."""


class ApiSettings(Settings, frozen=True):
    """Address and limits of the dispatch API; see `DispatchApi`."""

    _prefix: ClassVar[str] = "api."
    host: Hosts
    port: Port
    max_body: Count


class DispatchApi:
    """Serves the HTTP dispatch API of a server while it is entered.

    Requests of one connection are answered in their order, and a batch keeps its order. Entering the API
    again after leaving it is fine.

    Args:
        server: carries out dispatches and reports its health.
        key: the key that dispatchers have to send; 16 or more visible ASCII characters.
        host: an address or a name of this machine, a list of them, or "" for every address; by
            default only this machine can connect.
        port: the same on every address; 0 for a free one, see `url`.
        max_body: bytes of the largest request.

    Raises:
        InvalidSettings: the key cannot be used, or another setting is wrong.
    """

    def __init__(
        self,
        server: Server,
        *,
        key: str,
        host: HostOrHosts = "127.0.0.1",
        port: int = 4001,
        max_body: int = 8 * 1024 * 1024,
    ) -> None:
        self._settings = ApiSettings.of({"host": host, "port": port, "max_body": max_body})
        self._app = application(server, check_key(key, shortest=SHORTEST_KEY), max_body)
        self._url = ""
        self._service: HttpService | None = None

    @property
    def url(self) -> str:
        """URL for dispatchers, such as `http://127.0.0.1:4001`; empty until the API is entered."""
        return self._url

    async def __aenter__(self) -> Self:
        """Listen and serve.

        Raises:
            ListenFailed: the port is in use, or the host is no address of this machine.
        """
        host, port = self._settings.host, self._settings.port
        listeners = await listen(host, port, backlog=BACKLOG, who="the dispatch API ")
        self._url = f"http://{authority(host, listeners[0].getsockname()[1])}"
        self._service = HttpService(
            self._app,
            listeners,
            name="the dispatch API",
            who="dispatchers",
            keep_alive=KEEP_ALIVE,
            grace=GRACE,
        )
        self._service.start()
        log.info("dispatch API on %s", self._url)
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and let requests in progress finish within `GRACE` seconds."""
        if self._service is not None:
            await self._service.aclose()
