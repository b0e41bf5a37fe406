"""Events while a client logs in, gets another user, or waits: no message is lost."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Acknowledgement, Page, Start
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from mesa_ws.messages.recipients import User
from mesa_ws.transports.run import serve

from .conftest import Joining, Serving
from .sync import Flaky, data, send, storing, until

BIG = "x" * 60_000


class Slow(MemoryBackend):
    """A backend whose answer to `attach` waits until the test lets it go.

    Attributes:
        has_read: set when an answer waits.
        goes_on: lets answers go while it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.has_read, self.goes_on = asyncio.Event(), asyncio.Event()

    async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
        page = await super().attach(id, sockets, start)
        self.has_read.set()
        await self.goes_on.wait()
        return page


@pytest.mark.parametrize("should_sync", [True, False])
@pytest.mark.parametrize("wire", [1, 2])
async def test_what_is_for_everybody_during_a_login_follows_it(
    serving: Serving, join: Joining, wire: int, should_sync: bool
) -> None:
    backend = Slow()
    server = storing(backend)
    peer = await join(await serving(server))
    login = asyncio.create_task(peer.log_in("1", wire=wire, should_sync=should_sync))
    await backend.has_read.wait()
    await server.send(Message(0, 1, "ALL"))
    await asyncio.sleep(0)
    backend.goes_on.set()
    await login
    await server.send(Message(0, 2, "ALL"))
    assert data(await peer.messages(2)) == [1, 2]


@pytest.mark.parametrize("wire", [1, 2])
async def test_an_updated_user_during_a_login_gets_the_answer_and_what_is_for_the_new_id(
    serving: Serving, join: Joining, wire: int
) -> None:
    backend = Slow()
    server = storing(backend)
    told: list[str | None] = []

    @server.on_authentication
    async def tell(connection: Any) -> None:
        told.append(connection.id)

    peer = await join(await serving(server))
    await send(server, 1, to="1")
    await send(server, 2, to="2")
    login = asyncio.create_task(peer.log_in("1", wire=wire))
    await backend.has_read.wait()
    (connection,) = server.connections
    connection.update_user(User("2"))
    backend.goes_on.set()
    await login
    assert data(await peer.messages(1)) == [2]
    await send(server, 3, to="2")
    assert data(await peer.messages(1)) == [3]
    assert told == ["2"]
    assert await server.presence.online(["1", "2"]) == {"1": 0, "2": 1}


async def test_a_user_that_is_updated_twice_gets_what_is_for_the_last_id(
    serving: Serving, join: Joining
) -> None:
    backend = Slow()
    backend.goes_on.set()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=2)
    await send(server, 3, to="3")
    backend.goes_on.clear()
    (connection,) = server.connections
    connection.update_user(User("2"))
    connection.update_user(User("3"))
    await asyncio.sleep(0)
    backend.goes_on.set()
    assert data(await peer.messages(1)) == [3]
    assert [frame["op"] for frame in peer.frames].count(9) == 1


async def test_an_updated_user_misses_nothing_that_is_for_everybody(serving: Serving, join: Joining) -> None:
    backend = Slow()
    backend.goes_on.set()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=2)
    backend.has_read.clear()
    backend.goes_on.clear()
    (connection,) = server.connections
    connection.update_user(User("2"))
    await backend.has_read.wait()
    await server.send(Message(0, 1, "ALL"))
    await asyncio.sleep(0)
    backend.goes_on.set()
    assert data(await peer.messages(1)) == [1]


async def test_a_slow_reader_whose_user_is_updated_misses_nothing_that_is_for_everybody(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    peer = await join(await serving(server), max_queue=1)
    await peer.log_in("1", wire=2)
    (connection,) = server.connections
    count = 0
    while not connection.send_queue.is_congested:
        connection.send(Message(0, [count, BIG], "N"))
        count += 1
    await server.send(Message(0, "all", "ALL"))
    await asyncio.sleep(0)
    connection.update_user(User("2"))
    frames = await peer.messages(count + 1)
    assert frames[-1]["d"] == "all"


async def test_the_same_id_once_more_is_told_only_what_was_written(serving: Serving, join: Joining) -> None:
    class Unread(Flaky):
        async def broadcasts(self, position: Position | None) -> Page:
            return await MemoryBackend.broadcasts(self, position)

    backend = Unread()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=2)
    await server.send(Message(0, "written", "ALL"))
    await peer.messages(1)
    backend.is_deaf = True
    await send(server, 1)
    await asyncio.sleep(0)
    backend.is_deaf, backend.is_away = False, True
    await send(server, 2)
    await until(lambda: backend.attempts > 0)
    await server.send(Message(0, "waits", "ALL"))
    x = await peer.log_in("1", wire=2)
    backend.is_away = False
    frames = await peer.messages(3)
    assert data(frames) == [1, 2, "waits"]
    assert x["b"]["s"] < frames[-1]["b"]


async def test_clients_that_come_back_at_once_share_what_they_missed(serving: Serving, join: Joining) -> None:
    class Counting(Flaky):
        reads = 0

        async def broadcasts(self, position: Position | None) -> Page:
            self.reads += position is not None
            page = await super().broadcasts(position)
            await goes_on.wait()
            return page

    goes_on = asyncio.Event()
    goes_on.set()
    backend = Counting()
    server = storing(backend)
    endpoint = await serving(server)
    x = await (await join(endpoint, max_queue=None)).log_in("0", wire=2)
    await server.send(Message(0, 1, "ALL"))
    peers = [await join(endpoint) for _ in range(5)]
    goes_on.clear()
    logins = []
    for n, peer in enumerate(peers, 1):
        resume = {"b": {"e": x["b"]["e"], "s": x["b"]["s"]}}
        logins.append(asyncio.create_task(peer.log_in(str(n), wire=2, resume=resume)))
        await until(lambda: str(n) in server.fanout.by_id)  # noqa: B023 - it is called in this turn
        if n == 1:  # what the others share was read before this
            await until(lambda: backend.reads > 0)
            await server.send(Message(0, 2, "ALL"))
            await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(*logins)
    for peer in peers:
        assert data(await peer.messages(2)) == [1, 2]
    assert backend.reads < 5


class Acknowledged(MemoryBackend):
    """Counts acknowledgements and reads."""

    calls = 0
    reads = 0

    def acknowledge(self, acknowledgements: Sequence[Acknowledgement]) -> None:
        self.calls += 1
        super().acknowledge(acknowledgements)

    async def broadcasts(self, position: Position | None) -> Page:
        self.reads += 1
        return await super().broadcasts(position)


async def test_connections_of_one_id_that_leave_together_are_told_together(join: Joining) -> None:
    backend = Acknowledged()
    async with serve(storing(backend)) as endpoint:
        for _ in range(20):
            await join(endpoint, "1")
        before = backend.calls
    assert backend.calls - before < 3


async def test_what_was_proven_is_told_together_when_a_node_stops(join: Joining) -> None:
    backend = Acknowledged()
    async with serve(storing(backend)) as endpoint:
        places = []
        for n in range(20):
            peer = await join(endpoint)
            places.append((peer, await peer.log_in(str(n), wire=2)))
        for peer, _ in places:
            await peer.log_in("x", wire=2)
        for n, (peer, x) in enumerate(places):
            await peer.log_in(str(n), wire=2, resume={"e": x["e"], "s": x["s"]})
        before = backend.calls
    assert backend.calls - before < 5


async def test_who_is_excluded_reads_nothing_for_it(serving: Serving, join: Joining) -> None:
    backend = Acknowledged()
    server = storing(backend)
    peer = await join(await serving(server))
    await peer.log_in("1", wire=2)
    before = backend.reads
    await server.send(Message(0, 1, "ALL"), excluding=["1"])
    await server.send(Message(0, 2, "ALL"))
    assert data(await peer.messages(1)) == [2]
    assert backend.reads == before
