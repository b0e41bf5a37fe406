"""Clusters of genuine and of our servers, portals and dispatchers."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from mesa_ws import Mesa1Backend, Portal, PortalEvent, Server, serve
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer

from .foreign import ForeignProcess
from .npm_packages import Unavailable


class Cluster:
    """Processes of both kinds."""

    def __init__(self, url: str, namespace: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.namespace = namespace
        self._stack = stack

    async def foreign(self, program: str, **more: Any) -> ForeignProcess:
        try:
            process = self._stack.enter_context(ForeignProcess(program, self.url, self.namespace, **more))
        except Unavailable as why:
            pytest.skip(f"the npm packages are not here: {why}")
        await asyncio.to_thread(lambda: process.ready)
        return process

    async def serve(self) -> tuple[Mesa1Backend, str]:
        backend = Mesa1Backend(self.url, namespace=self.namespace, lease=1.5)
        server: Server = accepting(
            backend=backend, namespace=self.namespace, wire="mesa1", sync=True, portals=True
        )
        endpoint = await self._stack.enter_async_context(serve(server))
        return backend, endpoint.url

    async def portal(self) -> "Told":
        told = Told(Portal(self.url, namespace=self.namespace, wire="mesa1", lease=1.5))
        await self._stack.enter_async_context(told.portal)
        return told

    async def join(self, url: str, id: str) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(url))
        await peer.authenticate(id)
        return peer


class Told:
    """The events that a portal of ours received."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.events: list[PortalEvent] = []
        portal.on_connection(self.events.append)
        portal.on_authentication(self.events.append)
        portal.on_message(self.events.append)
        portal.on_disconnection(self.events.append)

    @property
    def messages(self) -> list[Any]:
        return [event.message.data for event in self.events if event.message is not None]


def url_of(server: ForeignProcess) -> str:
    return f"ws://127.0.0.1:{server.ready['port']}/"
