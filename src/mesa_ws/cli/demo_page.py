"""The page of `mesa demo --keep`, and its servers, which can be killed and started again.

The HTTP service of the page listens on 127.0.0.1. Pages of other sites must not kill servers either, so
it answers only to its own names (it refuses a foreign name that resolves to 127.0.0.1), never to another
origin, and does nothing without the token in the page, which other origins cannot read.
"""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..backend.base import AsyncBus
from ..backend.urls import async_bus
from ..dispatcher import AsyncDispatcher, Dispatch
from ..errors import InvalidInput, MesaError
from ..http_server.service import HttpService
from ..messages.message import Message
from ..transports.listening import listen
from .demo_servers import LISTEN, REPLICAS, START_LIMIT, DemoFailed, ServerRun, environment, server

Storage = Literal["memory", "own redis", "redis"]
"""Where the outboxes are: in the server itself, in a Redis of the demo, or in the user's Redis."""

OLDEST_REDIS = 7

PATIENCE = 2.0
"""Seconds a dispatch may take before the page reports that it failed."""


class KeptServer:
    """A server process that can be killed, and started again on the ports it had.

    Args:
        name: its name on the page.
        arguments: the arguments of `mesa serve`; port 0 becomes the port of the first start.
        settings: the environment of the process.
    """

    def __init__(self, name: str, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.name = name
        self.url = ""
        self.api_url: str | None = None
        self._arguments = arguments
        self._settings = settings
        self._turn = asyncio.Lock()
        self._process = AsyncExitStack()
        self._run: ServerRun | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._run is not None and self._run.is_running

    async def start(self) -> None:
        """Start the server, unless it runs.

        Raises:
            DemoFailed: it did not start.
        """
        async with self._turn:
            if not self.is_running:
                await self._process.aclose()
                arguments = (*self._arguments, *self._ports())
                run = await self._process.enter_async_context(server(arguments, self._settings))
                self._run, self.url, self.api_url = run, run.url, run.api_url

    async def kill(self) -> None:
        """Kill the server as `kill -9` does, if it runs."""
        async with self._turn:
            if self._run is not None:
                await self._run.kill()

    async def stop(self) -> None:
        """Stop the server cleanly."""
        async with self._turn:
            await self._process.aclose()

    def _ports(self) -> tuple[str, ...]:
        if not self.url:
            return ()
        ports = ("--port", str(urlsplit(self.url).port))
        return ports if self.api_url is None else (*ports, "--api-port", str(urlsplit(self.api_url).port))


class KeptServers(NamedTuple):
    """The servers of the page, and the connections to them.

    Attributes:
        storage: where the outboxes are.
        servers: one, or replicas on one Redis.
        dispatcher: sends messages that are stored until they are received.
        bus: reads the outboxes.
    """

    storage: Storage
    servers: Sequence[KeptServer]
    dispatcher: AsyncDispatcher
    bus: AsyncBus


@asynccontextmanager
async def kept_servers(redis: str | None) -> AsyncIterator[KeptServers]:
    """Run the servers for as long as the block lasts.

    Args:
        redis: URI of the Redis that replicas share. Without one, the `redis-server` on the PATH is
            started; if there is none, or an old one, one server keeps everything in its memory.

    Raises:
        DemoFailed: a process did not start.
    """
    async with AsyncExitStack() as running:
        storage: Storage = "redis"
        program = await _redis_server() if redis is None else None
        if program is not None:
            storage, redis = "own redis", await running.enter_async_context(_own_redis(program))
        if redis is None:
            yield await _alone(running)
        else:
            yield await _on_redis(running, redis, storage)


async def _alone(running: AsyncExitStack) -> KeptServers:
    key = secrets.token_urlsafe(24)
    [one] = await _started(running, ["A"], (*LISTEN, "--api-port", "0"), {"MESA_API_KEY": key})
    return await _reached(running, "memory", [one], one.api_url or "", key=key)


async def _on_redis(running: AsyncExitStack, redis: str, storage: Storage) -> KeptServers:
    namespace = f"demo-{secrets.token_hex(8)}"
    settings = {"MESA_REDIS": redis, "MESA_NAMESPACE": namespace}
    names = [chr(ord("A") + index) for index in range(REPLICAS)]
    servers = await _started(running, names, (*LISTEN, "--no-api"), settings)
    return await _reached(running, storage, servers, redis, namespace=namespace)


async def _started(
    running: AsyncExitStack, names: Sequence[str], arguments: tuple[str, ...], settings: Mapping[str, str]
) -> list[KeptServer]:
    servers = [KeptServer(name, arguments, settings) for name in names]
    for each in servers:
        running.push_async_callback(each.stop)
    await asyncio.gather(*(each.start() for each in servers))
    return servers


async def _reached(
    running: AsyncExitStack,
    storage: Storage,
    servers: Sequence[KeptServer],
    url: str,
    *,
    namespace: str | None = None,
    key: str | None = None,
) -> KeptServers:
    dispatcher = AsyncDispatcher(url, namespace=namespace, key=key, sync=True, timeout=PATIENCE)
    await running.enter_async_context(dispatcher)
    await dispatcher.presence.count()  # so that the first dispatch does not have to connect first
    bus = async_bus(url, namespace=namespace, key=key, timeout=PATIENCE)
    running.push_async_callback(bus.aclose)
    return KeptServers(storage, servers, dispatcher, bus)


async def _redis_server() -> str | None:
    """Return the path of the `redis-server` on the PATH, if it is new enough."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    asking = await asyncio.create_subprocess_exec(program, "--version", stdout=asyncio.subprocess.PIPE)
    output, _ = await asking.communicate()
    version = re.search(rb"v=(\d+)", output)
    return program if version is not None and int(version[1]) >= OLDEST_REDIS else None


@asynccontextmanager
async def _own_redis(program: str) -> AsyncIterator[str]:
    """Run a Redis that only this user can reach, on a socket in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="mesa-demo-") as directory:
        path = Path(directory) / "redis.sock"
        process = await asyncio.create_subprocess_exec(
            program,
            *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", directory),
            *("--save", "", "--appendonly", "yes"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment({}),
        )
        try:
            await _answering(process, path)
            yield f"unix://{path}"
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # nothing in it is needed any more
            await process.wait()


async def _answering(process: asyncio.subprocess.Process, path: Path) -> None:
    """Wait until Redis accepts connections."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_LIMIT):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(os.fspath(path))
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise DemoFailed("redis-server did not start; --redis names one that runs")


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

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


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

    Args:
        stage: the servers that it is about.
        hosts: the names of the service, each with its port.

    Attributes:
        closing: set when streams have to end.
    """

    def __init__(self, kept: KeptServers, hosts: frozenset[str]) -> None:
        self.closing = asyncio.Event()
        self._kept = kept
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

    def _guarded(self, answer: Endpoint) -> Endpoint:
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
        connected = " ".join(each.url.rstrip("/") for each in self._kept.servers)
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
        receipts = await self._kept.dispatcher.dispatch_many([each] * asked.times)
        last = receipts[-1].deliveries
        return _json({id: delivery.position and delivery.position.sequence for id, delivery in last.items()})

    async def _switch(self, request: Request) -> Response:
        self._check_token(request.headers.get(HEADER))
        index = request.path_params["index"]
        if index >= len(self._kept.servers):
            raise HTTPException(404)
        server = self._kept.servers[index]
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
            {"name": each.name, "url": each.url, "running": each.is_running} for each in self._kept.servers
        ]
        try:
            outboxes = {id: await self._outbox(id) for id in IDS}
        except MesaError as error:
            return {"storage": self._kept.storage, "servers": servers, "problem": str(error)}
        return {"storage": self._kept.storage, "servers": servers, "outboxes": outboxes}

    async def _outbox(self, id: str) -> dict[str, Any]:
        """Return the head of an outbox, and the messages that no client has acknowledged."""
        head = (await self._kept.bus.heads([id]))[id]
        if head is None:
            return {"top": 0, "acknowledged": 0, "waiting": []}
        waits = head.top > head.acknowledged
        held = await self._kept.bus.peek(id, SHOWN) if waits else []
        waiting = [each.sequence for each in held if each.sequence > head.acknowledged]
        return {"top": head.top, "acknowledged": head.acknowledged, "waiting": waiting}


@asynccontextmanager
async def demo_page(kept: KeptServers) -> AsyncIterator[str]:
    """Serve the page for as long as the block lasts.

    Yields:
        The address of the page.
    """
    listeners = await listen("127.0.0.1", 0, backlog=16, who="the page of the demo ")
    port = listeners[0].getsockname()[1]
    page = DemoPage(kept, frozenset({f"127.0.0.1:{port}", f"localhost:{port}"}))
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
