"""A server as an ASGI application, for one port with a web framework.

| scope | what the application does |
|---|---|
| `lifespan` | starts the server, and stops it |
| `websocket` | refuses, or serves a connection; the first one starts the server, unless something has |
| `http` | serves `/mesa.js` and `/mesa.mjs` below the mount, and tells all others what is here |

A framework that mounts the application may pass no `lifespan` on. Then its own lifespan starts and stops the
server, with `async with server`, or the first connection starts it, and it ends with the process.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import quote

from picows.picows import CIMultiDict  # type: ignore[attr-defined]  # its stubs leave it out

from ..close import CloseCode
from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import start
from ..errors import MesaError
from ..server.node import Node
from .asgi_socket import AsgiTransport, Event, Receive, Send, WriterTurns
from .browser_client import BrowserClient
from .proxies import RemoteAddress, TrustedProxies
from .server_socket import HIGH_WATER, RETRY_AFTER

Scope = Event

log = logging.getLogger("mesa_ws.server")

_HERE = b"this is a WebSocket server; connect with ws:// or wss://, or get mesa.js for browsers\n"

_Fields = dict[str, str]


class AsgiApplication:
    """Answers the calls of a WebSocket server.

    Args:
        node: gets the connections.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = LimitedLog(log)
        settings = node.settings
        proxies = settings.trusted_proxies
        self._proxies = TrustedProxies(proxies, settings.proxy_header) if proxies else None
        self._high_water = min(HIGH_WATER, settings.limits.max_buffered // 2)
        self._turns = WriterTurns()
        self._browser_client = BrowserClient()
        self._starting: asyncio.Task[None] | None = None
        self._open = 0
        self._all_gone: asyncio.Future[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one scope; others than the three are an error, as ASGI demands."""
        match scope["type"]:
            case "websocket":
                await self._serve(scope, receive, send)
            case "http":
                await self._answer(scope, send)
            case "lifespan":
                await self._live(receive, send)
            case other:
                raise ValueError(f"scope: expected websocket, http or lifespan, got {other!r}")

    async def wait_closed(self) -> None:
        """Wait until every connection has ended, a moment after its close frame at the latest."""
        self._log.close()
        if self._open:
            if self._all_gone is None or self._all_gone.done():
                self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._all_gone)

    # Lifespan.

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start the server, and stop it; one that the application has started itself is left alone."""
        is_ours = False
        while True:
            event = await receive()
            if event["type"] == "lifespan.startup":
                is_ours = not self._node.is_running
                try:
                    if is_ours:
                        await self._node.start()
                except MesaError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                if is_ours:
                    await self._node.stop()
                    await self.wait_closed()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _is_up(self) -> bool:
        """Whether the server runs, if need be after starting it, in this event loop."""
        if self._starting is None and self._node.is_unstarted:
            self._starting = start(self._node.start(), name="mesa-start")
            self._starting.add_done_callback(self._started)
        if self._starting is not None and self._starting.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({self._starting})
        if not self._node.is_open:
            return False
        if self._node.is_in_this_loop:
            return True
        self._log.error(
            "refused a connection: the server runs in another event loop; make a Server for each loop"
        )
        return False

    def _started(self, starting: "asyncio.Task[None]") -> None:
        self._starting = None
        error = None if starting.cancelled() else starting.exception()
        if error is not None:
            self._log.error(
                "the server could not start with its first connection, and the next one tries again: %s",
                error,
                kind=type(error),
            )
        else:
            log.info("the server was started by its first connection, and nothing stops it but its process")

    # WebSockets.

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a handshake, or serve the connection until it has ended."""
        if (await receive())["type"] != "websocket.connect":
            return
        headers = fields_of(scope["headers"])
        peer = _address(scope)
        client = peer
        if peer is not None and self._proxies is not None:
            client = self._proxies.client_of(peer, headers)
            if client is None:
                self._log.warning("a trusted proxy names no address of its client; its own counts")
                client = peer
        address, limits = client and client[0], self._node.connection_limits
        limit = limits.begin_handshake(address)
        if limit is not None:
            limits.refuse(limit, address)
            await _refuse(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, _retry_after())
            return
        try:
            is_accepted = await self._perform_handshake(scope, send, headers, address)
        finally:
            limits.end_handshake(address)
        if is_accepted:
            await self._run(scope, receive, send, headers, client)

    async def _perform_handshake(self, scope: Scope, send: Send, headers: Any, address: str | None) -> bool:
        """Refuse a handshake, or accept it; return whether there is a connection."""
        refused = await self._refusal(headers, address)
        try:
            if refused is not None:
                await _refuse(scope, send, *refused)
                return False
            offered = scope.get("subprotocols") or [None]
            await send({"type": "websocket.accept", "subprotocol": offered[0], "headers": []})
            code = CloseCode.TRY_AGAIN_LATER if self._is_full(address) else CloseCode.GOING_AWAY
            if code == CloseCode.TRY_AGAIN_LATER or not self._node.is_running:  # while the server sent
                await send({"type": "websocket.close", "code": int(code), "reason": ""})
                return False
        except Exception as error:  # noqa: BLE001 - servers raise what they like for a client that has gone
            log.debug("one of the clients failed in the handshake: %r", error)
            return False
        return True

    async def _refusal(self, headers: Any, address: str | None) -> tuple[HTTPStatus, _Fields] | None:
        """Return why a handshake is refused: the status and header fields; None if it is not."""
        if not await self._is_up():
            return HTTPStatus.SERVICE_UNAVAILABLE, _retry_after()
        if self._node.origins.refuse(headers):
            return HTTPStatus.FORBIDDEN, {}
        return (HTTPStatus.SERVICE_UNAVAILABLE, _retry_after()) if self._is_full(address) else None

    def _is_full(self, address: str | None) -> bool:
        """Whether a limit allows no further connection; then it is counted as refused."""
        limits = self._node.connection_limits
        limit = limits.reached(address)
        if limit is not None:
            limits.refuse(limit, address)
        return limit is not None

    async def _run(
        self, scope: Scope, receive: Receive, send: Send, headers: Any, client: RemoteAddress | None
    ) -> None:
        """Serve a connection that was accepted, until it has ended."""
        address, limits = client and client[0], self._node.connection_limits
        transport = AsgiTransport(self._turns, self._node.settings.limits.max_message)
        connection = self._node.connect(transport, _target(scope), headers, client, has_pings=False)
        limits.opened(connection, address)
        self._open += 1
        try:
            await transport.run(connection, self._high_water, receive, send)
        finally:
            limits.closed(connection, address)
            self._open -= 1
            if self._all_gone is not None and not (self._open or self._all_gone.done()):
                self._all_gone.set_result(None)

    # Requests.

    async def _answer(self, scope: Scope, send: Send) -> None:
        """Serve the client for browsers, and tell everything else what is here."""
        path = "/" + scope["path"].rstrip("/").rpartition("/")[2]  # Litestar adds a slash
        fields = fields_of(scope["headers"])
        file = None
        if scope["method"] in {"GET", "HEAD"}:
            file = self._browser_client.find(path.encode(), ",".join(fields.getall("if-none-match", [])))
        if file is not None:
            status, answer, body = file.status, file.fields, file.body or b""
        elif scope["method"] == "GET":
            status, body = HTTPStatus.UPGRADE_REQUIRED, _HERE
            answer = {"Upgrade": "websocket", "Content-Type": "text/plain; charset=utf-8"}
        else:
            status, body, answer = HTTPStatus.NOT_FOUND, _HERE, {"Content-Type": "text/plain; charset=utf-8"}
        if body or status is not HTTPStatus.NOT_MODIFIED:
            answer = answer | {"Content-Length": str(len(body))}
        await send({"type": "http.response.start", "status": int(status), "headers": _encoded(answer)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _refuse(scope: Scope, send: Send, status: HTTPStatus, fields: _Fields) -> None:
    """Refuse a handshake with a status, or with 403 where the WebSocket server knows no other."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": ""})
        return
    body = status.phrase.encode()
    fields = fields | {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(body))}
    await send({"type": "websocket.http.response.start", "status": int(status), "headers": _encoded(fields)})
    await send({"type": "websocket.http.response.body", "body": body})
    await asyncio.sleep(0)  # uvicorn has closed then, or it would report an unfinished handshake as an error


def fields_of(headers: Iterable[tuple[bytes, bytes]]) -> Any:
    """Return the header fields of a scope as those of our own port: by their names, without case."""
    return CIMultiDict((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)


def _encoded(fields: _Fields) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]


def _retry_after() -> _Fields:
    return {"Retry-After": str(random.randint(*RETRY_AFTER))}  # noqa: S311 - spreads load


def _address(scope: Scope) -> RemoteAddress | None:
    """Return the address of the peer; None where it has none, as over a Unix socket."""
    client = scope.get("client")
    if not client:
        return None
    host, port = client[0], client[1]
    try:
        ip_address(host)
    except ValueError:
        return None
    return host, int(port or 0)  # Granian names it as text


def _target(scope: Scope) -> str:
    """Return path and query as the client sent them, the path of the mount included."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw else quote(scope["path"])
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path
