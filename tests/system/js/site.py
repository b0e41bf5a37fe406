"""A server, and a network before it that can be harmed."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Self

import pytest

from mesa_ws import Connection, Message, Refused, Server, User, serve
from tests.faults.chaos.proxy import Proxy
from tests.system.waiting import until

IN_SESSION = pytest.mark.asyncio(loop_scope="session")

SETTINGS: Mapping[str, Any] = {
    "sync": True,
    "heartbeat": {"enabled": True, "interval": 0.1, "max_attempts": 1000},
}
"""What clients have handled, they acknowledge with each heartbeat."""


def believing(backend: Any = None, **options: Any) -> Server:
    """A server that stores what it sends; a token is the id that it is for, and `bad` ones are refused."""
    server = Server(backend, **{**SETTINGS, **options})

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        if data["token"].startswith("bad"):
            raise Refused("it has expired")
        return User(data["token"], {"id": data["token"]})

    return server


class Site:
    """A server, and a network before it.

    Attributes:
        server: what clients reach.
        network: the way to it.
        received: the data of messages of type `N` that the server was sent.
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
        """The only connection."""
        (connection,) = self.server.connections
        return connection

    async def dispatch(self, *data: Any, to: str = "alice", type: str = "M", sync: bool = True) -> None:
        """Send messages, one for each of these data."""
        for each in data:
            await self.server.send(Message(0, each, type, sync=sync), [to])

    def cut(self) -> None:
        """Cut the network; `mend` ends that."""
        self.network.is_down = True
        self.network.cut()

    def silence(self) -> None:
        """Lose all that is sent on the connections that there are, and close nothing."""
        for passage in self.network.passages:
            passage.there.is_swallowing = passage.back.is_swallowing = True

    def mend(self) -> None:
        """Let connections through again."""
        self.network.is_down = False

    async def until_acknowledged(self, number: int, id: str = "alice") -> None:
        """Wait until that many messages of an outbox are acknowledged, and no more."""
        acknowledged = 0

        async def are_there() -> bool:
            nonlocal acknowledged
            head = (await self.server.bus.heads([id]))[id]
            acknowledged = head.acknowledged if head else 0
            return acknowledged >= number

        await until(are_there)
        assert acknowledged == number

    async def _receive(self, message: Message, connection: Connection) -> None:
        self.received.append(message.data)


ResumeState = Callable[[Server], Awaitable[Site]]
"""Has a server running until the test ends."""
