"""A server with portals, over each kind of backend."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

from mesa_ws import AsyncDispatcher, Client, MemoryBackend, MemoryHub, Portal, PortalEvent, RedisBackend
from mesa_ws.backend.base import Backend
from mesa_ws.transports.run import Server, serve
from tests.system.server.conftest import accepting
from tests.system.server.peer import LIMIT, Peer

LEASE = 2.0
"""Seconds; a test may wait for it, and a busy machine may stall for a second."""


class Site:
    """Servers, portals and clients that find each other."""

    def __init__(self, redis_url: str | None, namespace: str, stack: AsyncExitStack) -> None:
        self.redis_url = redis_url
        self.namespace = namespace
        self.lease = LEASE
        self._hub = MemoryHub()
        self._stack = stack
        self.url, self.address = "", ("", 0)

    def backend(self) -> Backend:
        if self.redis_url is None:
            return MemoryBackend(self._hub, namespace=self.namespace)
        return RedisBackend(self.redis_url, namespace=self.namespace, lease=self.lease)

    async def serve(self, **options: Any) -> Server:
        options = {"portals": True, **options}
        server = accepting(backend=self.backend(), namespace=self.namespace, **options)
        endpoint = await self._stack.enter_async_context(serve(server))
        self.url, self.address = endpoint.url, (endpoint.host, endpoint.port)
        return server

    def portal(self, **options: Any) -> Portal:
        """A portal that does not run so far."""
        options = {"namespace": self.namespace, "lease": self.lease, **options}
        return Portal(self._hub if self.redis_url is None else self.redis_url, **options)

    async def start(self, portal: Portal) -> Portal:
        return await self._stack.enter_async_context(portal)

    async def record(self, **options: Any) -> "Record":
        """A running portal that keeps what it is given."""
        record = Record(self.portal(**options))
        await self.start(record.portal)
        return record

    def connect(self) -> AbstractAsyncContextManager[Peer]:
        return Peer.connect(self.url)

    async def join(self, id: str | None = None) -> Peer:
        peer = await self._stack.enter_async_context(self.connect())
        if id is not None:
            await peer.authenticate(id)
        return peer

    async def dispatcher(self, **options: Any) -> AsyncDispatcher:
        assert self.redis_url is not None
        dispatcher = AsyncDispatcher(self.redis_url, namespace=self.namespace, **options)
        return await self._stack.enter_async_context(dispatcher)


class Record:
    """What a portal was given."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.events: list[PortalEvent] = []
        self._news = asyncio.Event()
        portal.on_connection(self._take)
        portal.on_authentication(self._take)
        portal.on_message(self._take)
        portal.on_disconnection(self._take)

    async def _take(self, event: PortalEvent) -> None:
        self.events.append(event)
        self._news.set()

    @property
    def types(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def data(self) -> list[Any]:
        return [event.message.data for event in self.events if event.message is not None]

    async def until(self, count: int) -> list[PortalEvent]:
        """Wait for so many events."""
        async with asyncio.timeout(LIMIT):
            while len(self.events) < count:
                self._news.clear()
                await self._news.wait()
        return self.events


@pytest.fixture
async def stack(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncExitStack]:
    """What ends with the test, while patches still hold; after a test that timed out, it may never end."""
    stack = AsyncExitStack()
    yield stack
    async with asyncio.timeout(LIMIT):
        await stack.aclose()


@pytest.fixture(params=["memory", "redis"])
def site(request: pytest.FixtureRequest, namespace: str, stack: AsyncExitStack) -> Site:
    url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    return Site(url, namespace, stack)


@pytest.fixture
def redis_site(redis_url: str, namespace: str, stack: AsyncExitStack) -> Site:
    return Site(redis_url, namespace, stack)


@pytest.fixture
async def server(site: Site) -> Server:
    return await site.serve()


@pytest.fixture
async def client(server: Server, site: Site, stack: AsyncExitStack) -> Client:
    return await stack.enter_async_context(Client(site.url))
