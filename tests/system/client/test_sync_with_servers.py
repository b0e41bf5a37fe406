"""Clients of real servers, over each kind of backend: what they miss while they are away, they get."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from mesa_ws import (
    Client,
    FilePositions,
    MemoryBackend,
    MemoryHub,
    Message,
    RedisBackend,
    Server,
    User,
    serve,
)
from mesa_ws.backend.queries import Heads
from mesa_ws.server.connection import Connection
from tests.ports import free_port
from tests.system.asgi import Serve, serve_of

from .scripted import LIMIT, SOON

Told = asyncio.Queue[Any]


class Site:
    """A server that can go away and come back, and another one beside it that sends and stores."""

    def __init__(self, make: Any, stack: AsyncExitStack, serve: Serve) -> None:
        self._make = make
        self._serve = serve
        self._stack = stack
        self._running = AsyncExitStack()
        self.port = free_port()
        self.sender: Server

    async def start(self, **sync: Any) -> None:
        self.sender = Server(self._make(), sync={"enabled": True} | sync)
        await self._stack.enter_async_context(serve(self.sender))
        self._stack.push_async_callback(self.stop)
        await self.come()

    async def come(self) -> None:
        server = Server(self._make())

        @server.authenticator
        async def authenticate(data: Any, connection: Connection) -> User:
            return User(data["id"])

        await self._running.enter_async_context(self._serve(server, port=self.port))

    async def stop(self) -> None:
        await self._running.aclose()

    async def client(self, told: Told | None = None, **options: Any) -> Client:
        """A client of the id 1, which puts the events of its callbacks into `told`."""
        client = Client(f"ws://127.0.0.1:{self.port}", reconnect=SOON, **options)
        self._stack.push_async_callback(client.aclose)
        if told is not None:
            client.on_message(lambda message: told.put_nowait(message.data))
            client.on_lost(lambda number: told.put_nowait(("lost", number)))
            client.on_reset(lambda: told.put_nowait("reset"))
        await client.connect()
        await client.authenticate({"id": "1"})
        return client

    async def dispatch(self, *numbers: Any, to: tuple[str, ...] = ("1",)) -> None:
        for number in numbers:
            await self.sender.send(Message(0, number), to)

    async def settled(self) -> None:
        """Wait until all that was sent to the id 1 was acknowledged."""
        async with asyncio.timeout(LIMIT):
            while True:
                head = (await self.sender.bus.query(Heads(["1"])))["1"]
                if head is not None and head.acknowledged == head.top:
                    return
                await asyncio.sleep(0.02)


@pytest.fixture(params=["memory", "redis"])
async def site(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Site]:
    hub = MemoryHub()

    def make() -> Any:
        if request.param == "memory":
            return MemoryBackend(hub, namespace=namespace)
        return RedisBackend(request.getfixturevalue("redis_url"), namespace=namespace)

    async with AsyncExitStack() as stack:
        yield Site(make, stack, serve_of(request))


async def heard(told: Told, count: int) -> list[Any]:
    async with asyncio.timeout(LIMIT):
        return [await told.get() for _ in range(count)]


async def test_what_was_dispatched_while_it_was_away_arrives_once_and_in_order(site: Site) -> None:
    told: Told = asyncio.Queue()
    await site.start()
    await site.client(told)
    await site.dispatch(1, 2)
    await site.dispatch("a", to=("*",))
    assert await heard(told, 3) == [1, 2, "a"]
    await site.stop()
    await site.dispatch(3, 4)
    await site.dispatch("b", to=("*",))
    await site.come()
    assert sorted(map(str, await heard(told, 3))) == ["3", "4", "b"]
    await site.dispatch(5)
    assert await heard(told, 1) == [5]
    assert told.empty()


async def test_a_program_that_starts_again_goes_on_where_it_was_whatever_other_devices_had(
    site: Site, tmp_path: Path
) -> None:
    await site.start()
    store = FilePositions(tmp_path / "positions")
    other: Told = asyncio.Queue()
    await site.client(other)
    client = await site.client(positions=store)
    await site.dispatch(1, 2, 3)
    async with asyncio.timeout(LIMIT):
        assert [(await anext(client)).data for _ in range(2)] == [1, 2]
    await client.aclose()
    await site.settled()  # by the other device
    await site.dispatch(4)
    again = await site.client(positions=store)
    async with asyncio.timeout(LIMIT):
        assert [(await anext(again)).data for _ in range(3)] == [2, 3, 4]


async def test_what_was_acknowledged_is_not_sent_to_the_next_client(site: Site) -> None:
    told: Told = asyncio.Queue()
    await site.start()
    client = await site.client(told)
    await site.dispatch(1, 2)
    assert await heard(told, 2) == [1, 2]
    await client.aclose()
    await site.dispatch(3)
    await site.client(told)
    assert await heard(told, 1) == [3]


async def test_what_was_not_handled_is_sent_to_the_next_client(site: Site) -> None:
    await site.start()
    client = await site.client()
    await site.dispatch(1, 2)
    async with asyncio.timeout(LIMIT):
        await anext(client)
    await client.aclose()
    again = await site.client()
    async with asyncio.timeout(LIMIT):
        assert [(await anext(again)).data for _ in range(2)] == [1, 2]


async def test_what_was_dropped_while_it_was_away_is_told(site: Site) -> None:
    told: Told = asyncio.Queue()
    await site.start(max_messages=2)
    await site.client(told)
    await site.dispatch(1)
    assert await heard(told, 1) == [1]
    await site.stop()
    await site.dispatch(2, 3, 4, 5)
    await site.come()
    assert await heard(told, 3) == [("lost", 2), 4, 5]


async def test_many_messages_are_acknowledged_while_they_come(site: Site) -> None:
    told: Told = asyncio.Queue()
    await site.start()
    await site.client(told)
    await asyncio.gather(*(site.dispatch(n) for n in range(500)))
    assert await heard(told, 500) == list(range(500))
    await site.settled()


async def test_another_id_is_no_position_of_the_first(site: Site) -> None:
    told: Told = asyncio.Queue()
    await site.start()
    client = await site.client(told)
    await site.dispatch(1)
    assert await heard(told, 1) == [1]
    await site.dispatch("for 2", to=("2",))
    await client.authenticate({"id": "2"})
    assert await heard(told, 2) == ["reset", "for 2"]
