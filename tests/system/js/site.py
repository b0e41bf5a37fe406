"""A server behind a network that can break."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Self

import pytest

from mesa_ws import Connection, Message, Refused, Server, User, serve
from mesa_ws.backend.queries import Heads
from tests.faults.chaos.proxy import Proxy
from tests.system.waiting import until

IN_SESSION = pytest.mark.asyncio(loop_scope="session")

SETTINGS: Mapping[str, Any] = {
    "sync": True,
    "heartbeat": {"enabled": True, "interval": 0.1, "max_attempts": 1000},
}
"""Heartbeats, with which clients acknowledge handled messages."""


def believing(backend: Any = None, **options: Any) -> Server:
    """Return a server that stores its messages; a token is an id, and the server refuses `bad` ones."""
    server = Server(backend, **{**SETTINGS, **options})

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        if data["token"].startswith("bad"):
            raise Refused("it has expired")
        return User(data["token"], {"id": data["token"]})

    return server


class Site:
    """A server behind a network.

    Attributes:
        server: the server.
        network: proxy to the server.
        received: data of the `N` messages that the server received.
    """

    def __init__(self, server: Server, network: Proxy) -> None:
        self.server = server
        self.network = network
        self.received: list[Any] = []
        server.on_message("N")(self._receive)

    @classmethod
    @asynccontextmanager
    async def standing(cls, server: Server) -> AsyncIterator[Self]:
        """Serve until the end of the context."""
        async with serve(server) as endpoint:
            network = Proxy(Random(1), endpoint.port)
            async with network.listening():
                yield cls(server, network)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.network.port}/"

    @property
    def connection(self) -> Connection:
        """Return the only connection."""
        (connection,) = self.server.connections
        return connection

    async def dispatch(self, *data: Any, to: str = "alice", type: str = "M", sync: bool = True) -> None:
        """Send a message for each data."""
        for each in data:
            await self.server.send(Message(0, each, type, sync=sync), [to])

    def cut(self) -> None:
        """Cut the network until `mend`."""
        self.network.is_down = True
        self.network.cut()

    def silence(self) -> None:
        """Drop everything on the present connections, without closing them."""
        for passage in self.network.passages:
            passage.there.is_swallowing = passage.back.is_swallowing = True

    def mend(self) -> None:
        """Accept connections again."""
        self.network.is_down = False

    async def until_acknowledged(self, number: int, id: str = "alice") -> None:
        """Wait until exactly `count` messages of an outbox are acknowledged."""
        acknowledged = 0

        async def are_there() -> bool:
            nonlocal acknowledged
            head = (await self.server.bus.query(Heads([id])))[id]
            acknowledged = head.acknowledged if head else 0
            return acknowledged >= number

        await until(are_there)
        assert acknowledged == number

    async def _receive(self, message: Message, connection: Connection) -> None:
        self.received.append(message.data)


ResumeState = Callable[[Server], Awaitable[Site]]
"""Has a server running until the test ends."""
