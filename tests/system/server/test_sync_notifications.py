"""Notifications of applications: who comes and goes, and which messages were lost."""

import asyncio

import pytest

from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.errors import InvalidInput, Unsupported
from mesa_ws.messages.message import Message
from mesa_ws.transports.run import Server

from .conftest import Joining, Serving
from .peer import LIMIT
from .sync import Flaky, data, numbers, send, storing, until

SMALL = {"enabled": True, "max_messages": 2}


async def test_who_comes_and_goes_is_told_once(serving: Serving, join: Joining) -> None:
    hub = MemoryHub()
    servers = [storing(MemoryBackend(hub), presence={"grace": 0}) for _ in range(2)]
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    for server in servers:
        server.on_online(lambda who: told.put_nowait(("online", who)))

        @server.on_offline
        async def gone(id: str) -> None:
            told.put_nowait(("offline", id))

    endpoints = [await serving(server) for server in servers]
    first, second = [await join(endpoint) for endpoint in endpoints]
    async with asyncio.timeout(4):  # less than the default grace
        await first.log_in("1")
        assert await told.get() == ("online", "1")
        await second.log_in("1")
        await first.socket.close()
        await second.socket.close()
        assert await told.get() == ("offline", "1")
    assert told.empty()
    assert await servers[0].presence.count() == 0


async def test_a_client_that_comes_back_within_the_grace_was_not_away(
    serving: Serving, join: Joining
) -> None:
    server = storing(presence={"grace": 60})
    told: list[str] = []

    @server.on_online
    async def came(id: str) -> None:
        told.append(id)

    @server.on_offline
    async def gone(id: str) -> None:
        told.append(f"not {id}")

    endpoint = await serving(server)
    peer = await join(endpoint)
    await peer.log_in("1")
    await peer.socket.close()
    await until(lambda: not server.connections)
    await (await join(endpoint)).log_in("1")
    await (await join(endpoint)).log_in("2")
    await until(lambda: "2" in told)
    assert told == ["1", "2"]


async def test_a_handler_of_an_id_that_raises_is_reported(serving: Serving, join: Joining) -> None:
    server = storing()
    reported: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    @server.on_online
    def fails(id: str) -> None:
        raise ValueError(id)

    @server.on_error
    async def failed(error: BaseException, connection: object) -> None:
        reported.put_nowait((str(error), connection))

    await (await join(await serving(server))).log_in("1")
    async with asyncio.timeout(LIMIT):
        assert await reported.get() == ("1", None)


async def test_what_a_client_of_1x_lost_is_told_once(
    serving: Serving, join: Joining, caplog: pytest.LogCaptureFixture
) -> None:
    server = storing(sync=SMALL)
    lost: list[tuple[str, int]] = []

    @server.on_lost
    async def tell(id: str, count: int) -> None:
        lost.append((id, count))

    endpoint = await serving(server)
    await send(server, 1, 2, 3, 4, 5)
    for _ in range(2):
        peer = await join(endpoint)
        await peer.log_in("1")
        frames = await peer.messages(2)
        assert (data(frames), numbers(frames)) == ([4, 5], [1, 2])
        await peer.socket.close()
        await until(lambda: not server.connections)
    await until(lambda: len(lost) > 0)
    assert lost == [("1", 3)]
    assert caplog.text.count("3 messages to '1' are lost") == 1


async def test_wire_2_is_told_what_it_lost(serving: Serving, join: Joining) -> None:
    server = storing(sync=SMALL)
    endpoint = await serving(server)
    await send(server, 1, 2, 3, 4, 5)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    assert (x["s"], x["status"], x["lost"]) == (3, "fresh", 3)
    assert numbers(await peer.messages(2)) == [4, 5]


@pytest.mark.parametrize("wire", [1, 2])
async def test_a_loss_on_an_open_connection_is_told(serving: Serving, join: Joining, wire: int) -> None:
    backend = Flaky()
    server = storing(backend, sync=SMALL)
    lost: list[tuple[str, int]] = []
    server.on_lost(lambda who, count: lost.append((who, count)))
    peer = await join(await serving(server))
    await peer.log_in("1", wire=wire)
    await send(server, 1)
    await peer.messages(1)
    backend.is_deaf = True
    await send(server, 2, 3, 4)
    await asyncio.sleep(0)
    backend.is_deaf = False
    await send(server, 5)
    frames = await peer.messages(2)
    assert data(frames) == [4, 5]
    if wire == 2:
        [resync] = [frame["d"] for frame in peer.frames if frame["op"] == 9]
        assert (resync["s"], resync["status"], resync["lost"]) == (3, "resumed", 2)
    else:
        await until(lambda: lost == [("1", 2)])


async def test_a_purged_outbox_is_told(serving: Serving, join: Joining) -> None:
    backend = MemoryBackend()
    server = storing(backend)
    endpoint = await serving(server)
    await send(server, 1, 2)
    peer = await join(endpoint)
    x = await peer.log_in("1", wire=2)
    await peer.messages(2)
    await peer.socket.close()
    await backend.purge("1")
    again = await (await join(endpoint)).log_in("1", wire=2, resume={"e": x["e"], "s": 0})
    assert (again["s"], again["status"], again["lost"]) == (2, "resumed", 2)


async def test_a_message_that_is_not_to_be_stored_is_not(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    receipt = await server.send(Message(0, 1, "N", sync=False), ["1"])
    assert not receipt.deliveries["1"].stored
    await send(server, 2)
    peer = await join(endpoint)
    await peer.log_in("1")
    assert data(await peer.messages(1)) == [2]


async def test_a_server_without_sync_stores_nothing(serving: Serving, join: Joining) -> None:
    server = storing(sync=False)
    endpoint = await serving(server)
    await send(server, 1)
    peer = await join(endpoint)
    await peer.log_in("1")
    await send(server, 2)
    assert data(await peer.messages(1)) == [2]


async def test_a_key_makes_sending_again_safe(serving: Serving, join: Joining) -> None:
    server = storing()
    endpoint = await serving(server)
    receipts = [await server.send(Message(0, 1, "N"), ["1"], idempotency_key="order-5") for _ in range(2)]
    assert receipts[0] == receipts[1]
    await send(server, 2)
    peer = await join(endpoint)
    await peer.log_in("1")
    assert data(await peer.messages(2)) == [1, 2]


async def test_a_durability_that_the_backend_does_not_have_is_refused(serving: Serving) -> None:
    server = storing()
    await serving(server)
    with pytest.raises(Unsupported):
        await server.send(Message(), ["1"], durability="fsync")
    plain = Server()
    await serving(plain)
    with pytest.raises(InvalidInput):
        await plain.send(Message(), ["1"], durability="fsync")
