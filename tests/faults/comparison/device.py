"""Devices that log in and receive numbers, with a client of 1.x or with ours."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Protocol, Self, TypeVar

from mesa_ws import Client, Message
from tests.interop.genuine import Driver, GenuineClient

FLAVOUR = "@cryb/mesa"
LIMIT = 30.0

T = TypeVar("T")


class Device(Protocol):
    """One device of an id, over all its logins."""

    id: str

    @property
    def logins(self) -> list[list[int]]:
        """The numbers that the device received, login by login."""
        ...

    def begin(self, url: str, wait: float = 0) -> None:
        """Connect and request authentication, for which the server shall take `wait` seconds."""
        ...

    def arrive(self, url: str) -> None:
        """Connect, and wait until authenticated."""
        ...

    def leave(self) -> None:
        """Disconnect."""
        ...

    def send(self, data: Any) -> None:
        """Send a message to the server."""
        ...


class NpmDevice:
    """A device with the client of the npm package."""

    def __init__(self, id: str, driver: Driver) -> None:
        self.id = id
        self._driver = driver
        self._clients: list[GenuineClient] = []

    @property
    def logins(self) -> list[list[int]]:
        return [
            [m["data"] for m in client.all("message") if m["type"] == "NUMBER"] for client in self._clients
        ]

    def begin(self, url: str, wait: float = 0) -> None:
        client = self._driver.open(FLAVOUR, url)
        self._clients.append(client)
        self._driver.command(do="authenticate", client=client.name, data={"id": self.id, "wait": wait})

    def arrive(self, url: str) -> None:
        self.begin(url)
        self._clients[-1].wait("user")

    def leave(self) -> None:
        self._clients[-1].close()
        self._clients[-1].wait("disconnected")

    def send(self, data: Any) -> None:
        self._clients[-1].send(data, "SEND")


class OurDevice:
    """A device with our client, which keeps its position between logins."""

    def __init__(self, id: str, loop: "Loop") -> None:
        self.id = id
        self._loop = loop
        self._position: bytes | None = None
        self._client: Client
        self._logging_in: asyncio.Task[Any]
        self.logins: list[list[int]] = []

    def load(self) -> bytes | None:
        """Return the position; see `PositionStore`."""
        return self._position

    def save(self, position: bytes) -> None:
        """Store the position; see `PositionStore`."""
        self._position = position

    def begin(self, url: str, wait: float = 0) -> None:
        self._loop.run(self._begin(url, wait))

    def arrive(self, url: str) -> None:
        self.begin(url)
        self._loop.run(self._until_known())

    def leave(self) -> None:
        self._loop.run(self._leave())

    def send(self, data: Any) -> None:
        self._loop.run(self._client.send(Message(0, data, "SEND")))

    async def _begin(self, url: str, wait: float) -> None:
        numbers: list[int] = []
        self.logins.append(numbers)
        self._client = Client(url, reconnect=False, positions=self)

        @self._client.on_message("NUMBER")
        def got(message: Message) -> None:
            numbers.append(message.data)

        await self._client.connect()
        asking = self._client.authenticate({"id": self.id, "wait": wait})
        self._logging_in = asyncio.create_task(asking)
        await asyncio.sleep(0)  # the task has to begin; it writes at once

    async def _until_known(self) -> None:
        await self._logging_in

    async def _leave(self) -> None:
        await self._client.aclose()
        await asyncio.gather(self._logging_in, return_exceptions=True)


class Loop:
    """An event loop in a thread, for tests that block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="comparison")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and wait for its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(LIMIT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()
