"""Metrics for Prometheus and health over HTTP: routes of the dispatch API, and a server of their own."""

import logging
from types import ModuleType, TracebackType
from typing import ClassVar, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as HttpRoute

from ..errors import Unsupported
from ..middleware.families import ClusterMetrics
from ..settings import Hosts, Port, Settings
from ..transports.listening import HostOrHosts, authority, listen
from ..transports.run import Server
from .counts import ApiCounts
from .service import HttpLimits, HttpService

log = logging.getLogger("mesa_ws.server")

LIVE = "/health/live"
READY = "/health/ready"
METRICS = "/metrics"

LIMITS = HttpLimits(connections=64)
"""What the peers of a `MetricsServer` may cost: probes and Prometheus are few."""

BACKLOG = 128
KEEP_ALIVE = 75
GRACE = 2


class Health:
    """Answers whether a server lives, and whether it is ready for clients."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def routes(self) -> list[HttpRoute]:
        """Return the routes, which need no key."""
        return [HttpRoute(LIVE, self._live), HttpRoute(READY, self._ready)]

    async def _live(self, request: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def _ready(self, request: Request) -> Response:
        if self._server.is_ready:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "unavailable", "why": "the backend is away"}, 503)


class Exposition:
    """Exports the metrics of a server, and of its HTTP API.

    The server counts from the first request for them on, unless it uses `PrometheusMetrics` already: then
    those are exported, with the rest of their registry.

    Args:
        server: the server.
        api: counts of its HTTP API; None without one.
    """

    def __init__(self, server: Server, api: ApiCounts | None = None) -> None:
        self._server = server
        self._api = api
        self._cluster = ClusterMetrics(server)

    def begin(self) -> None:
        """Count from now on.

        Raises:
            Unsupported: the library for it is not installed.
        """
        _library().counting(self._server)

    async def response(self) -> Response:
        """Return the metrics.

        Raises:
            Unsupported: the library for it is not installed.
        """
        library = _library()
        metrics = library.counting(self._server)
        families = [*(self._api.families() if self._api else ()), *await self._cluster.read()]
        body, media_type = library.exposition(metrics, families)
        return Response(body, media_type=media_type)


def _library() -> ModuleType:
    """Import what needs prometheus-client, an extra of the distribution."""
    try:
        from ..middleware import prometheus  # noqa: PLC0415 - only who asks for metrics needs it
    except ImportError as error:
        raise Unsupported(str(error)) from error
    return prometheus


class _Settings(Settings, frozen=True):
    _prefix: ClassVar[str] = "metrics."
    host: Hosts
    port: Port


class MetricsServer:
    """Serves `/metrics`, `/health/live` and `/health/ready` on a port of their own, without a key.

    Give it to `Server.run` or `serve` as a service. The metrics hold no ids and nothing that clients choose,
    but let only those connect who may read them.

    Args:
        server: the server whose metrics and health these are.
        host: an address or a name of this machine, a list of them, or "" for every address.
        port: the same on every address; 0 for a free one, see `url`.

    Raises:
        InvalidSettings: an argument is wrong.
    """

    def __init__(self, server: Server, host: HostOrHosts = "127.0.0.1", port: int = 9100) -> None:
        self._settings = _Settings.of({"host": host, "port": port})
        self._exposition = Exposition(server)
        routes = [HttpRoute(METRICS, self._metrics), *Health(server).routes()]
        self._app = Starlette(routes=routes)
        self._service: HttpService | None = None
        self._url = ""

    @property
    def url(self) -> str:
        """URL of the metrics, such as `http://127.0.0.1:9100/metrics`; empty until the server is entered."""
        return self._url

    async def __aenter__(self) -> Self:
        """Listen and serve; the server counts from now on.

        Raises:
            ListenFailed: the port is in use, or the host is no address of this machine.
            Unsupported: prometheus-client is not installed.
        """
        self._exposition.begin()
        listeners = await listen(self._settings.host, self._settings.port, backlog=BACKLOG, who="metrics ")
        address = authority(self._settings.host, listeners[0].getsockname()[1])
        self._url = f"http://{address}{METRICS}"
        self._service = HttpService(
            self._app,
            listeners,
            name="the metrics",
            who="probes",
            keep_alive=KEEP_ALIVE,
            grace=GRACE,
            limits=LIMITS,
        )
        self._service.start()
        log.info("metrics on %s", self._url)
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and let requests in progress finish within `GRACE` seconds."""
        if self._service is not None:
            await self._service.aclose()

    async def _metrics(self, request: Request) -> Response:
        return await self._exposition.response()
