"""Every test here runs on asyncio's own event loop and on uvloop; with a server of ours over ASGI, too."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
import uvloop

from mesa_ws.client import Client
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Endpoint, Server
from tests.system.asgi import LANE, serve_of

from .scripted import ScriptedServer, Visitor


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    lanes = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    if {"endpoint", "site"} & set(item.fixturenames) and item.get_closest_marker("native") is None:  # type: ignore[attr-defined]
        lanes[LANE] = uvloop.new_event_loop
    return lanes


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncExitStack]:
    """What ends with the test, while patches still hold."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def scripted(stack: AsyncExitStack) -> ScriptedServer:
    """A server that does what the test says."""
    return await stack.enter_async_context(ScriptedServer())


@pytest.fixture
async def server() -> Server:
    """A server that believes who clients say they are, refuses `bad`, and echoes messages."""
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User | None:
        return None if data["id"] == "bad" else User(data["id"], {"id": data["id"], "name": "somebody"})

    server.on_message(lambda message, connection: connection.send(message))
    return server


@pytest.fixture
async def endpoint(request: pytest.FixtureRequest, server: Server, stack: AsyncExitStack) -> Endpoint:
    """Where that server listens."""
    return await stack.enter_async_context(serve_of(request)(server))


async def meet(scripted: ScriptedServer, client: Client, **announced: Any) -> Visitor:
    """Connect a client to the scripted server."""
    connecting = asyncio.create_task(client.connect())
    guest = await scripted.guest(**announced)
    await connecting
    return guest


async def meet_user(scripted: ScriptedServer, client: Client, data: Any = None) -> Visitor:
    """Connect a client, and accept it as a user."""
    guest = await meet(scripted, client)
    authenticating = asyncio.create_task(client.authenticate(data or {"id": "1"}))
    await guest.welcome(id="1")
    await authenticating
    return guest
