"""Every test here runs on asyncio's own event loop and on uvloop; and over ASGI, unless it is `native`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Endpoint, Server
from tests.system.asgi import LANE, serve_of

from .peer import Peer

Serving = Callable[..., Awaitable[Endpoint]]
Joining = Callable[..., Awaitable[Peer]]


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    lanes = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    fixtures = getattr(item, "fixturenames", ())
    if "serving" in fixtures and item.get_closest_marker("native") is None:
        lanes[LANE] = uvloop.new_event_loop
    return lanes


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncExitStack]:
    """What ends with the test, while patches still hold."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def serving(request: pytest.FixtureRequest, stack: AsyncExitStack) -> Serving:
    """Serves a server until the test ends, natively or over ASGI."""
    serve = serve_of(request)

    async def start(server: Server, **options: Any) -> Endpoint:
        return await stack.enter_async_context(serve(server, **options))

    return start


@pytest.fixture
def join(stack: AsyncExitStack) -> Joining:
    """Connects a peer until the test ends; with `id` it authenticates."""

    async def connect(endpoint: Endpoint, id: str | None = None, **options: Any) -> Peer:
        peer = await stack.enter_async_context(Peer.connect(endpoint.url, **options))
        if id is not None:
            await peer.authenticate(id)
        return peer

    return connect


def accepting(**options: Any) -> Server:
    """A server that believes who clients say they are, and refuses `bad`."""
    server = Server(**options)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        return None if data["id"] == "bad" else User(data["id"])

    return server
