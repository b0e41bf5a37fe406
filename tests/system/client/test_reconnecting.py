"""How a client comes back, and when it does not."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as websockets_serve
from websockets.datastructures import Headers
from websockets.http11 import Response

from mesa_ws.client import Client, ClientLimits, ConnectionInfo, Reconnection
from mesa_ws.close import CLOSE_TABLE, CloseCode
from mesa_ws.errors import ConnectionClosed, InvalidInput
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.settings import Keepalive
from mesa_ws.transports.run import Server, serve
from tests.ports import free_port

from .conftest import meet, meet_user
from .scripted import LIMIT, SOON, ScriptedServer, Visitor, message

SENDABLE = [code for code in CLOSE_TABLE if code not in {CloseCode.NO_STATUS, CloseCode.ABNORMAL}]
FAST = Keepalive(interval=0.05, timeout=0.05)


def told_by(client: Client) -> "asyncio.Queue[Any]":
    """What the client tells about its connections."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    client.on_connected(lambda info: told.put_nowait(info.is_automatic_reconnection))
    client.on_disconnected(lambda *ending: told.put_nowait(ending))
    return told


async def test_a_later_connection_is_told_as_a_reconnection(scripted: ScriptedServer) -> None:
    infos: asyncio.Queue[ConnectionInfo] = asyncio.Queue()
    client = scripted.client()
    client.on_connected(infos.put_nowait)
    guest = await meet(scripted, client)
    await infos.get()
    guest.cut()
    await scripted.guest(c_reconnect_interval=7000)
    async with asyncio.timeout(LIMIT):
        info = await infos.get()
    assert info[:3] == (False, False, True)
    assert info.hello.reconnect_interval == 7


@pytest.mark.parametrize("code", [code for code in SENDABLE if code.may_reconnect])
async def test_it_comes_back_where_the_code_allows_it(scripted: ScriptedServer, code: CloseCode) -> None:
    client = scripted.client()
    told = told_by(client)
    guest = await meet(scripted, client)
    await guest.close(code)
    await scripted.guest()
    async with asyncio.timeout(LIMIT):
        assert [await told.get() for _ in range(3)] == [False, (code, "", True), True]


@pytest.mark.parametrize("code", [code for code in SENDABLE if not code.may_reconnect])
async def test_it_stays_away_where_the_code_forbids_it(scripted: ScriptedServer, code: CloseCode) -> None:
    client = scripted.client()
    told = told_by(client)
    guest = await meet(scripted, client)
    await guest.close(code, "go away")
    async with asyncio.timeout(LIMIT):
        with pytest.raises(ConnectionClosed, match=f"{int(code)}: go away"):
            await client.wait_closed()
        assert [await told.get(), await told.get()] == [False, (code, "go away", False)]
    await client.aclose()
    assert told.empty()


async def test_without_reconnection_the_first_end_is_the_last(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=False)
    told = told_by(client)
    (await meet(scripted, client)).cut()
    async with asyncio.timeout(LIMIT):
        assert [await told.get(), await told.get()] == [False, (1006, "", False)]


async def test_it_does_not_come_back_after_closing(scripted: ScriptedServer) -> None:
    client = scripted.client()
    told = told_by(client)
    guest = await meet(scripted, client)
    await client.aclose()
    await guest.closed()
    assert [await told.get(), await told.get()] == [False, (1000, "", False)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await scripted.visitor()


async def test_it_may_close_with_a_code_of_its_own(scripted: ScriptedServer) -> None:
    client = scripted.client()
    told = told_by(client)
    guest = await meet(scripted, client)
    await client.aclose(4001)
    assert (await guest.closed())[0] == 4001
    assert [await told.get(), await told.get()] == [False, (4001, "", False)]
    await client.aclose()
    with pytest.raises(ConnectionClosed) as caught:
        await client.send(Message(0))
    assert caught.value.code == 4001


@pytest.mark.parametrize("code", [999, 1001, 1005, 2999, 5000, True, "1000", None])
async def test_it_closes_with_no_code_that_is_not_an_applications(
    scripted: ScriptedServer, code: Any
) -> None:
    client = scripted.client()
    await meet(scripted, client)
    with pytest.raises(InvalidInput, match=r"code: expected 1000, or 3000 to 4999, got"):
        await client.aclose(code)
    await client.aclose()


async def test_closing_while_away_ends_the_waiting(scripted: ScriptedServer) -> None:
    client = scripted.client(reconnect=Reconnection(interval=60))
    told = told_by(client)
    (await meet(scripted, client)).cut()
    async with asyncio.timeout(LIMIT):
        assert [await told.get(), await told.get()] == [False, (1006, "", True)]
        await client.aclose()
        await client.wait_closed()


async def test_closing_while_it_comes_back_hangs_up(scripted: ScriptedServer) -> None:
    client = scripted.client()
    (await meet(scripted, client)).cut()
    visitor = await scripted.visitor()
    async with asyncio.timeout(LIMIT):
        await client.aclose()
    assert (await visitor.closed())[0] == 1006


async def test_it_tries_until_the_server_is_there_again() -> None:
    async with ScriptedServer() as first:
        client = Client(first.url, reconnect=SOON)
        told = told_by(client)
        await meet(first, client)
        assert await told.get() is False
    assert await told.get() == (1006, "", True)
    async with ScriptedServer(first.port) as second:
        await second.guest()
        async with asyncio.timeout(LIMIT):
            assert await told.get() is True


async def test_a_server_that_does_not_greet_is_tried_again(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(connect_timeout=1.0))
    told = told_by(client)
    (await meet(scripted, client)).cut()
    silent = await scripted.visitor()
    await silent.closed()
    await (await scripted.visitor()).close(1001)
    await scripted.guest()
    async with asyncio.timeout(LIMIT):
        assert [await told.get() for _ in range(3)] == [False, (1006, "", True), True]


async def test_a_dead_server_is_noticed_and_left(scripted: ScriptedServer) -> None:
    client = scripted.client(ClientLimits(close_timeout=60), keepalive=FAST)
    told = told_by(client)
    guest = await meet(scripted, client)
    guest.socket.transport.pause_reading()  # alive for TCP, dead for everybody else
    await scripted.guest()
    async with asyncio.timeout(LIMIT):
        assert await told.get() is False
        code, reason, will_reconnect = await told.get()
    assert (code, will_reconnect) == (CloseCode.NO_KEEPALIVE, True)
    assert "silent" in reason


async def test_a_living_server_is_kept(scripted: ScriptedServer) -> None:
    client = scripted.client(keepalive=FAST)
    guest = await meet(scripted, client)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await guest.socket.recv()  # answers Pings while it waits
    assert client.is_connected


@pytest.fixture
def jitters(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each pause might have been beyond the interval; none of them lasts."""
    most: list[float] = []

    def shortest(low: float, high: float) -> float:
        most.append(high)
        return low

    monkeypatch.setattr("random.uniform", shortest)
    return most


async def test_pauses_grow_while_connections_come_to_nothing(
    scripted: ScriptedServer, jitters: list[float]
) -> None:
    client = scripted.client(reconnect=Reconnection(interval=0.001))
    (await meet(scripted, client)).cut()
    for _ in range(2):
        (await scripted.guest()).cut()
    await scripted.guest()
    assert jitters == [0.001, 0.002, 0.004]


async def test_pauses_go_on_growing_where_each_login_is_thrown_out(
    scripted: ScriptedServer, jitters: list[float]
) -> None:
    client = scripted.client(reconnect=Reconnection(interval=0.001))
    (await meet_user(scripted, client)).cut()
    (await scripted.guest()).cut()
    guest = await scripted.guest()
    await guest.welcome()
    await client.send(message("ACCEPTED"))
    await guest.types(1)
    guest.cut()
    await scripted.guest()
    assert jitters == [0.001, 0.002, 0.004]


async def test_a_retry_after_is_heeded(jitters: list[float]) -> None:
    answers = iter([None, Response(503, "Busy", Headers({"Retry-After": "60"}))])
    guests: asyncio.Queue[Visitor] = asyncio.Queue()

    async def visit(connection: ServerConnection) -> None:
        guests.put_nowait(await Visitor(connection).greet(c_reconnect_interval=1))
        await connection.wait_closed()

    async with websockets_serve(visit, "127.0.0.1", 0, process_request=lambda *_: next(answers)) as listener:
        client = Client(f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}", reconnect=SOON)
        await client.connect()
        (await guests.get()).cut()
        async with asyncio.timeout(LIMIT):
            while len(jitters) < 2:
                await asyncio.sleep(0)
        await client.aclose()
    assert jitters == [0.001, 15.0]


async def test_pauses_start_over_after_a_connection_that_lasted(
    scripted: ScriptedServer, jitters: list[float]
) -> None:
    client = scripted.client(reconnect=Reconnection(interval=0.001, max_pause=0.05))
    guest = await meet(scripted, client)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await guest.socket.recv()
        guest.cut()
        guest = await scripted.guest()
    assert jitters == [0.001, 0.001]


async def test_a_restarted_server_gets_its_users_back() -> None:
    port = free_port()
    users: asyncio.Queue[str] = asyncio.Queue()
    client: Client | None = None
    for _ in range(2):
        server = _naming(users)
        async with serve(server, port=port) as endpoint:
            if client is None:
                client = Client(endpoint.url, reconnect=SOON)
                await client.connect()
                await client.authenticate({"id": "1"})
            async with asyncio.timeout(LIMIT):
                assert await users.get() == "1"
    assert client is not None


def _naming(users: "asyncio.Queue[str]") -> Server:
    server = Server()

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        users.put_nowait(data["id"])
        return User(data["id"])

    return server
