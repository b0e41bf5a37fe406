"""Where messages begin: resuming, positions that are not trusted, and changing the user."""

import asyncio
from typing import Any

import pytest

from mesa_ws.backend.memory import MemoryBackend
from mesa_ws.backend.outbox import Page, Start
from mesa_ws.backend.queries import Peek
from mesa_ws.messages.recipients import User

from .conftest import Joining, Serving
from .sync import data, numbers, send, storing, unproven, until, until_unproven


async def test_a_client_of_1x_that_wants_nothing_stored_takes_it_as_received(
    serving: Serving, join: Joining
) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    await peer.log_in("1", should_sync=False)
    await send(server, 3)
    assert data(await peer.messages(1)) == [3]
    assert await unproven(server) == 1


async def test_wire_2_that_wants_nothing_stored_leaves_it_to_others(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2, should_sync=False)
    assert (x["s"], x["status"]) == (2, "fresh")
    await send(server, 3)
    assert numbers(await peer.messages(1)) == [3]
    await peer.acknowledge(x["e"], 3)
    await peer.socket.close()
    other = await join(endpoint)
    await other.log_in("1")
    assert data(await other.messages(3)) == [1, 2, 3]


async def test_wire_2_that_wants_nothing_stored_settles_what_it_gets(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    x = await peer.log_in("1", wire=2, should_sync=False)
    await send(server, 1)
    await peer.messages(1)
    await peer.acknowledge(x["e"], 1)
    await until_unproven(server, 0)


@pytest.mark.parametrize(
    "resume",
    [
        {"e": "0123456789abcdef", "s": 1},
        {"e": "0123456789abcdef"},
        {"s": -1, "e": 5},
        "x",
        {"e": None, "s": None},
    ],
)
async def test_a_position_that_is_not_of_this_outbox_is_reset(
    serving: Serving, join: Joining, resume: Any
) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2, resume=resume)
    assert (x["s"], x["status"]) == (0, "reset")
    assert data(await peer.messages(2)) == [1, 2]


async def test_the_position_of_another_id_is_reset(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    other = await join(endpoint)
    x = await other.log_in("2", wire=2)
    await send(server, 1, 2, 3)
    peer = await join(endpoint)
    again = await peer.log_in("1", wire=2, resume={"e": x["e"], "s": 2})
    assert again["status"] == "reset"
    assert numbers(await peer.messages(3)) == [1, 2, 3]


async def test_a_position_beyond_the_end_is_reset(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    await send(server, 1)
    first = await join(endpoint)
    x = await first.log_in("1", wire=2)
    again = await (await join(endpoint)).log_in("1", wire=2, resume={"e": x["e"], "s": 9})
    assert (again["s"], again["status"]) == (0, "reset")


@pytest.mark.parametrize("beyond", [9, 2**53 - 1])
async def test_what_was_never_sent_cannot_be_acknowledged(
    serving: Serving, join: Joining, beyond: int
) -> None:
    server = storing()
    endpoint = await serving(server)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    await send(server, 1)
    await peer.messages(1)
    await peer.acknowledge(x["e"], beyond)
    await peer.acknowledge("0123456789abcdef", 1)
    await peer.raw('{"op":3,"d":null}')
    await peer.socket.close()
    await until(lambda: not server.connections)
    assert await unproven(server) == 1


async def test_the_same_id_once_more_goes_on_where_it_was(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    await peer.log_in("1", wire=2)
    await send(server, 1, 2)
    await peer.messages(2)
    x = await peer.log_in("1", wire=2)
    assert (x["s"], x["status"]) == (2, "resumed")
    await send(server, 3)
    assert numbers(await peer.messages(1)) == [3]


async def test_the_same_id_once_more_sends_nothing_twice_to_1x(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    await peer.log_in("1")
    await send(server, 1)
    await peer.messages(1)
    await peer.log_in("1")
    await send(server, 2)
    assert data(await peer.messages(1)) == [2]


@pytest.mark.parametrize("wire", [1, 2])
async def test_another_id_begins_anew_and_keeps_what_the_first_did_not_prove(
    serving: Serving, join: Joining, wire: int
) -> None:
    server = storing()
    endpoint = await serving(server)
    peer = await join(endpoint)
    await peer.log_in("1", wire=wire)
    await send(server, 1)
    await send(server, 2, to="2")
    await peer.messages(1)
    await peer.log_in("2", wire=wire)
    frames = await peer.messages(1)
    assert (data(frames), numbers(frames)) == ([2], [1])
    assert await server.presence.online(["1", "2"]) == {"1": 0, "2": 1}
    assert (await unproven(server, "1"), await unproven(server, "2")) == (1, 1)


@pytest.mark.parametrize("wire", [1, 2])
async def test_an_updated_user_gets_what_waits_for_the_new_id(
    serving: Serving, join: Joining, wire: int
) -> None:
    server = storing()
    peer = await join(await serving(server))
    await peer.log_in("1", wire=wire)
    await send(server, 1)
    await send(server, 2, 3, to="2")
    assert data(await peer.messages(1)) == [1]
    (connection,) = server.connections
    connection.update_user(User("2"))
    assert data(await peer.messages(2)) == [2, 3]
    moved = [frame["d"] for frame in peer.frames if frame["op"] == 9]
    assert [(each["s"], each["status"]) for each in moved] == ([(0, "reset")] if wire == 2 else [])
    await send(server, 4, to="2")
    assert data(await peer.messages(1)) == [4]


async def test_a_connection_that_dies_during_login_loses_nothing(serving: Serving, join: Joining) -> None:
    class Slow(MemoryBackend):
        async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
            page = await super().attach(id, sockets, start)
            if not has_died.is_set():
                reading.set()
                await has_died.wait()
            return page

    reading, has_died = asyncio.Event(), asyncio.Event()
    server = storing(Slow())
    endpoint = await serving(server)
    await send(server, 1)
    first = await join(endpoint)
    await first.raw('{"op":2,"d":{"id":"1"}}')
    await reading.wait()
    await first.socket.close()
    await until(lambda: not server.connections)
    has_died.set()
    second = await join(endpoint)
    await second.log_in("1")
    assert data(await second.messages(1)) == [1]


async def test_what_comes_during_login_follows_what_was_stored(serving: Serving, join: Joining) -> None:
    class Slow(MemoryBackend):
        async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
            page = await super().attach(id, sockets, start)
            await send(server, 2)
            await send(server, 3, sync=False)
            await send(server, 4)
            for _ in range(10):
                await asyncio.sleep(0)
            return page

    server = storing(Slow())
    endpoint = await serving(server)
    await send(server, 1)
    peer = await join(endpoint)
    await peer.log_in("1")
    frames = await peer.messages(4)
    assert sorted(data(frames)) == [1, 2, 3, 4]
    assert data(frames)[0] == 1
    assert [n for n in data(frames) if n != 3] == [1, 2, 4]
    assert peer.frames[1]["op"] == 22


async def test_what_is_not_stored_follows_the_whole_backlog(serving: Serving, join: Joining) -> None:
    class Slow(MemoryBackend):
        async def attach(self, id: str, sockets: int, start: Start | None = None) -> Page | None:
            page = await super().attach(id, sockets, start)
            await send(server, 600, sync=False)
            await asyncio.sleep(0)
            return page

    server = storing(Slow())
    endpoint = await serving(server)
    await send(server, *range(600))
    peer = await join(endpoint)
    await peer.log_in("1")
    assert data(await peer.messages(601)) == list(range(601))


async def test_two_devices_of_one_id_both_get_everything(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    first, second = await join(endpoint), await join(endpoint)
    x = await first.log_in("1", wire=2)
    await second.log_in("1")
    await send(server, 1, 2)
    assert numbers(await first.messages(2)) == [1, 2]
    assert data(await second.messages(2)) == [1, 2]
    await first.acknowledge(x["e"], 2)
    await until_unproven(server, 0)


async def test_wire_2_resumes_what_another_device_has_acknowledged(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    first, second = await join(endpoint), await join(endpoint)
    x = await first.log_in("1", wire=2)
    await second.log_in("1", wire=2)
    await second.socket.close()
    await send(server, 1, 2)
    await first.messages(2)
    await first.acknowledge(x["e"], 2)
    await until_unproven(server, 0)
    again = await join(endpoint)
    place = await again.log_in("1", wire=2, resume={"e": x["e"], "s": 0})
    assert (place["status"], place["lost"]) == ("resumed", 0)
    assert numbers(await again.messages(2)) == [1, 2]


async def test_becoming_another_tells_what_was_proven_before(serving: Serving, join: Joining) -> None:
    server = storing()
    peer = await join(await serving(server))
    x = await peer.log_in("1", wire=2)
    await send(server, 1)
    await peer.messages(1)
    await peer.acknowledge(x["e"], 1)
    await peer.log_in("2", wire=2)
    assert await unproven(server) == 0


async def test_a_position_that_is_resumed_is_proven(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    await send(server, 1, 2)
    await peer.messages(2)
    await peer.socket.close()
    assert await unproven(server) == 2
    await (await join(endpoint)).log_in("1", wire=2, resume={"e": x["e"], "s": 2})
    await until_unproven(server, 0)


async def test_what_one_device_lacks_is_kept_while_it_is_connected(serving: Serving, join: Joining) -> None:
    backend = MemoryBackend()
    server = storing(backend, sync={"enabled": True, "resume_window": 0})
    endpoint = await serving(server)
    fast, late = await join(endpoint), await join(endpoint)
    x = await fast.log_in("1", wire=2)
    await late.log_in("1", wire=2)
    await send(server, 1, 2)
    await fast.messages(2)
    await fast.acknowledge(x["e"], 2)
    await until_unproven(server, 0)
    assert [stored.sequence for stored in await backend.query(Peek("1", 9))] == [1, 2]
    await late.acknowledge(x["e"], 1)

    async def one_is_left() -> bool:
        return [stored.sequence for stored in await backend.query(Peek("1", 9))] == [2]

    await until(one_is_left)
