"""The page of `mesa demo --keep`: dispatches, outboxes, and servers to kill and to start again.

The HTTP service of the page listens on 127.0.0.1. Pages of other sites must not kill servers either, so
it answers only to its own names (it refuses a foreign name that resolves to 127.0.0.1), never to another
origin, and does nothing without the token in the page, which other origins cannot read.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from importlib.resources import files
from typing import Annotated, Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..backend.base import AsyncBus
from ..backend.queries import Heads, Peek
from ..backend.urls import async_bus
from ..dispatcher import AsyncDispatcher, Dispatch
from ..errors import InvalidInput, MesaError
from ..http_server.service import HttpService
from ..messages.message import Message
from ..transports.listening import listen
from .demo_servers import DemoServers

PATIENCE = 2.0
"""Seconds a dispatch may take before the page reports that it failed."""

IDS = ("0", "1")
"""The users of the page."""

PERIOD = 0.2
"""Seconds between two reads of the servers' states and the outboxes."""

HEADER = "x-demo-token"
"""The header that carries the token of the page."""

SHOWN = 1000
"""Messages of an outbox that are read to find those that wait."""

_PACKAGE = files("mesa_ws")

_PAGE = _PACKAGE / "cli/page"

FILES = {
    "demo.css": _PAGE / "demo.css",
    "demo.js": _PAGE / "demo.js",
    "user.js": _PAGE / "user.js",
    "mesa.mjs": _PACKAGE / "browser/mesa.mjs",
}
"""Files that the page loads."""

_TYPES = {"css": "text/css", "js": "text/javascript", "mjs": "text/javascript"}

INDEX = _PAGE / "index.html"
"""The page, which contains the token."""

Respond = Callable[[Request], Coroutine[Any, Any, Response]]


class _DispatchForm(msgspec.Struct, forbid_unknown_fields=True):
    """A dispatch from the form of the page."""

    type: str
    data: Any
    to: list[str]
    excluding: list[str]
    times: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


class _ServerButton(msgspec.Struct, forbid_unknown_fields=True):
    """A click on a button of a server."""

    running: bool


class DemoPage:
    """Answers the requests of the page.

    Attributes:
        closing: set when streams have to end.
    """

    def __init__(
        self, demo: DemoServers, dispatcher: AsyncDispatcher, bus: AsyncBus, hosts: frozenset[str]
    ) -> None:
        self.closing = asyncio.Event()
        self._demo = demo
        self._dispatcher = dispatcher
        self._bus = bus
        self._hosts = hosts
        self._token = secrets.token_urlsafe(24)

    @property
    def app(self) -> Starlette:
        """The service as an ASGI application."""
        routes = (
            ("/", "GET", self._index),
            ("/events", "GET", self._events),
            ("/dispatch", "POST", self._dispatch),
            ("/servers/{index:int}", "POST", self._switch),
            ("/{name}", "GET", self._file),
        )
        return Starlette(
            routes=[Route(path, self._guarded(answer), methods=[method]) for path, method, answer in routes],
            exception_handlers={MesaError: _failed, msgspec.MsgspecError: _unreadable},
        )

    def _guarded(self, answer: Respond) -> Respond:
        async def guarded(request: Request) -> Response:
            self._check_source(request)
            response = await answer(request)
            response.headers.update(self._headers)
            return response

        return guarded

    def _check_source(self, request: Request) -> None:
        """Refuse requests that neither the page itself nor a person opening it has made."""
        host, origin = request.headers.get("host"), request.headers.get("origin")
        if host not in self._hosts:
            raise HTTPException(421, f"Host: expected {' or '.join(sorted(self._hosts))}")
        if origin is not None and origin != f"http://{host}":
            raise HTTPException(403, "Origin: expected that of the page")

    def _check_token(self, shown: str | None) -> None:
        if not secrets.compare_digest((shown or "").encode(), self._token.encode()):
            raise HTTPException(403, "expected the token that stands in the page; load the page again")

    @property
    def _headers(self) -> dict[str, str]:
        connected = " ".join(each.url.rstrip("/") for each in self._demo.servers)
        policy = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
            f"connect-src 'self' {connected}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        return {
            "content-security-policy": policy,
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
            "referrer-policy": "no-referrer",
            "x-content-type-options": "nosniff",
        }

    async def _index(self, request: Request) -> Response:
        page = INDEX.read_text(encoding="utf-8").replace("{{token}}", self._token)
        return Response(page, media_type="text/html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES:
            raise HTTPException(404)
        return Response(FILES[name].read_bytes(), media_type=_TYPES[name.rpartition(".")[2]])

    async def _dispatch(self, request: Request) -> Response:
        self._check_token(request.headers.get(HEADER))
        asked = msgspec.json.decode(await request.body(), type=_DispatchForm)
        each = Dispatch(Message(0, asked.data, asked.type), asked.to, asked.excluding)
        receipts = await self._dispatcher.dispatch_many([each] * asked.times)
        last = receipts[-1].deliveries
        return _json({id: delivery.position and delivery.position.sequence for id, delivery in last.items()})

    async def _switch(self, request: Request) -> Response:
        self._check_token(request.headers.get(HEADER))
        index = request.path_params["index"]
        if index >= len(self._demo.servers):
            raise HTTPException(404)
        server = self._demo.servers[index]
        if msgspec.json.decode(await request.body(), type=_ServerButton).running:
            await server.start()
        else:
            await server.kill()
        return _json({"running": server.is_running})

    async def _events(self, request: Request) -> Response:
        self._check_token(request.query_params.get("token"))
        return StreamingResponse(self._states(), media_type="text/event-stream")

    async def _states(self) -> AsyncIterator[bytes]:
        """Yield the state of servers and outboxes, now and after each change."""
        told = b""
        while not self.closing.is_set():
            state = msgspec.json.encode(await self._state())
            if state != told:
                yield b"data: %b\n\n" % state
            told = state
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), PERIOD)

    async def _state(self) -> dict[str, Any]:
        servers = [
            {"name": each.name, "url": each.url, "running": each.is_running} for each in self._demo.servers
        ]
        try:
            outboxes = {id: await self._outbox(id) for id in IDS}
        except MesaError as error:
            return {"storage": self._demo.storage, "servers": servers, "problem": str(error)}
        return {"storage": self._demo.storage, "servers": servers, "outboxes": outboxes}

    async def _outbox(self, id: str) -> dict[str, Any]:
        """Return the head of an outbox, and the messages that no client has acknowledged."""
        head = (await self._bus.query(Heads([id])))[id]
        if head is None:
            return {"top": 0, "acknowledged": 0, "waiting": []}
        waits = head.top > head.acknowledged
        held = await self._bus.query(Peek(id, SHOWN)) if waits else []
        waiting = [each.sequence for each in held if each.sequence > head.acknowledged]
        return {"top": head.top, "acknowledged": head.acknowledged, "waiting": waiting}


@asynccontextmanager
async def demo_page(demo: DemoServers) -> AsyncIterator[str]:
    """Serve the page for as long as the block lasts.

    Yields:
        The address of the page.
    """
    url, namespace, key = demo.url, demo.namespace, demo.key
    async with (
        AsyncDispatcher(url, namespace=namespace, key=key, sync=True, timeout=PATIENCE) as dispatcher,
        aclosing(async_bus(url, namespace=namespace, key=key, timeout=PATIENCE)) as bus,
    ):
        await dispatcher.presence.count()  # so that the first dispatch does not have to connect first
        listeners = await listen("127.0.0.1", 0, backlog=16, who="the page of the demo ")
        port = listeners[0].getsockname()[1]
        page = DemoPage(demo, dispatcher, bus, frozenset({f"127.0.0.1:{port}", f"localhost:{port}"}))
        service = HttpService(
            page.app, listeners, name="the page of the demo", who="browsers", keep_alive=60, grace=1
        )
        service.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            page.closing.set()
            await service.aclose()


async def _failed(request: Request, error: Exception) -> Response:
    status = 400 if isinstance(error, InvalidInput) else 503
    return _json({"error": str(error)}, status)


async def _unreadable(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400)


def _json(document: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")
