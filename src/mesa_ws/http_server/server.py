"""The dispatch API as a service of a server: on its own port, in the same event loop."""

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from os import PathLike
from types import TracebackType
from typing import Any, ClassVar, Self

from ..errors import MesaError
from ..server.request import TakeBack
from ..settings import Count, Hosts, Port, Seconds, Settings
from ..transports.listening import HostOrHosts, authority, listen
from ..transports.run import Server
from .counts import ApiCounts
from .keys import ApiKeys
from .routes import application
from .service import HttpLimits, HttpService
from .strangers import Strangers

log = logging.getLogger("mesa_ws.server")

GRACE = 5
"""Seconds in which requests in progress may finish when the API stops."""

BACKLOG = 1024

PATHS = b"/v1/", b"/health/", b"/metrics"
"""What paths of the API begin with."""

KEEP_ALIVE = 75
"""Seconds for which an idle connection is kept, longer than our dispatchers keep theirs."""


class ApiLimits(Settings, frozen=True, kw_only=True):
    """Limits of what the peers of the dispatch API may cost together.

    Attributes:
        max_bodies: bytes of all requests in memory at once; more are answered 503. It is `max_body`
            if that is larger.
        max_connections: connections that are open at once; more are answered 503.
        head_timeout: seconds for the head of a request, from the connection or from its first byte.
        body_timeout: seconds for the body of a request, and for its sender to read the answer.
    """

    _prefix: ClassVar[str] = "api."
    max_bodies: Count = 64 * 1024 * 1024
    max_connections: Count = 1000
    head_timeout: Seconds = 10.0
    body_timeout: Seconds = 30.0


DEFAULT_LIMITS = ApiLimits()


class ApiSettings(Settings, frozen=True):
    """Address and limits of the dispatch API; see `DispatchApi`."""

    _prefix: ClassVar[str] = "api."
    host: Hosts
    port: Port | None
    max_body: Count
    limits: ApiLimits


class DispatchApi:
    """Serves the HTTP dispatch API of a server while it is entered.

    Requests of one connection are answered in their order, and a batch keeps its order. Entering the API
    again after leaving it is fine.

    Args:
        server: carries out dispatches and reports its health.
        key: a key for dispatchers that has all rights; 16 or more visible ASCII characters.
        keys_file: path of a TOML file with more keys, each with a name and rights, which is read again
            when it changes; `docs/reference/http-api.md` shows one. `key` is optional then.
        host: an address or a name of this machine, a list of them, or "" for every address; by
            default only this machine can connect.
        port: the same on every address; 0 for a free one, see `url`. None for the port of the server itself,
            where the API answers `/metrics` and what begins with `/v1/` and `/health/`, and `host` does not
            count.
        max_body: bytes of the largest request.
        limits: what all requests and connections together may cost.

    Raises:
        InvalidSettings: the key cannot be used, or another setting is wrong.
        InvalidInput: the file of keys cannot be used.
    """

    def __init__(
        self,
        server: Server,
        *,
        key: str | None = None,
        keys_file: str | PathLike[str] | None = None,
        host: HostOrHosts = "127.0.0.1",
        port: int | None = 4001,
        max_body: int = 8 * 1024 * 1024,
        limits: ApiLimits | Mapping[str, Any] = DEFAULT_LIMITS,
    ) -> None:
        settings = ApiSettings.of({"host": host, "port": port, "max_body": max_body, "limits": limits})
        self._settings = settings
        self._server = server
        self._counts = ApiCounts()
        most = settings.limits.max_bodies
        self._keys = ApiKeys(key, keys_file)
        self._app = application(server, self._keys, max_body, most, self._counts)
        self._url = ""
        self._service: HttpService | None = None
        self._strangers: Strangers | None = None  # on the port of the server

    @property
    def url(self) -> str:
        """URL for dispatchers, such as `http://127.0.0.1:4001`; empty until the API is entered."""
        return self._url

    async def __aenter__(self) -> Self:
        """Listen and serve.

        Raises:
            ListenFailed: the port is in use, or the host is no address of this machine.
            MesaError: without a port of its own, the server has none either, or another API has it.
        """
        host, port, limits = self._settings.host, self._settings.port, self._settings.limits
        listeners: list[socket.socket] = []
        if port is None:
            self._url = self._on_the_servers_port()
            self._strangers = Strangers(self._server, self._keys)
        else:
            listeners = await listen(host, port, backlog=BACKLOG, who="the dispatch API ")
            self._url = f"http://{authority(host, listeners[0].getsockname()[1])}"
        self._service = HttpService(
            self._app,
            listeners,
            name="the dispatch API",
            who="dispatchers",
            keep_alive=KEEP_ALIVE,
            grace=GRACE,
            limits=HttpLimits(limits.max_connections, limits.head_timeout, limits.body_timeout),
            refused=self._counts.refused,
        )
        self._counts.connections = self._service.connections
        self._service.start()
        if port is None:
            self._server.other_requests = self
        log.info("dispatch API on %s", self._url)
        own = [listener.getsockname()[0] for listener in listeners]
        _warn_of_plain_http(self._server.plain_addresses if port is None else own)
        return self

    async def __aexit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop listening, and let requests in progress finish within `GRACE` seconds."""
        if self._settings.port is None:
            self._server.other_requests = None
        if self._service is not None:
            await self._service.aclose()

    # For the server, whose port this API may share.

    def answers(self, path: bytes) -> bool:
        """Whether requests for this path are for the API."""
        return path.startswith(PATHS)

    def protocol(self, transport: asyncio.Transport, take_back: TakeBack) -> asyncio.Protocol | None:
        """Return the protocol of a connection of the server's port; None if there are too many."""
        service = self._service
        if service is None or self._strangers is None:
            return None
        return service.protocol(transport, self.answers, take_back, self._strangers)

    def _on_the_servers_port(self) -> str:
        if not self._server.http_url:
            raise MesaError(
                "DispatchApi(port=None): expected a server with a port, got one without; "
                "enter the API inside `async with serve(server, ...)`, or give it to server.run"
            )
        if self._server.other_requests is not None:
            raise MesaError("DispatchApi(port=None): expected one API on the port of the server, got another")
        return self._server.http_url


def _warn_of_plain_http(addresses: Sequence[str]) -> None:
    open_ones = [host for host in addresses if not ip_address(host.partition("%")[0]).is_loopback]
    if open_ones:
        log.warning(
            "the dispatch API listens on %s over plain HTTP: keys and messages can be read on the way; "
            "listen on 127.0.0.1, and put a TLS proxy in front for other machines",
            ", ".join(open_ones),
        )
