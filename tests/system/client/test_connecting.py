"""How a client finds its server, and what it says when it does not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.http11 import Request, Response

from mesa_ws.client import Client, ClientLimits, ConnectionInfo
from mesa_ws.errors import ConnectFailed, ConnectionClosed, MesaError
from mesa_ws.messages.message import Message
from mesa_ws.settings import Heartbeat, Reconnect
from mesa_ws.transports.run import Endpoint, Server, serve

from .scripted import LIMIT, ScriptedServer, Visitor

IMPATIENT = ClientLimits(connect_timeout=0.2)


@asynccontextmanager
async def raw_server(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server that is no WebSocket server."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    async with server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws?token=secret"


async def failure(url: str, **options: Any) -> str:
    with pytest.raises(ConnectFailed) as raised:
        await Client(url, **options).connect()
    return str(raised.value)


async def test_it_learns_what_the_server_announces() -> None:
    server = Server(
        heartbeat=Heartbeat(enabled=True, interval=7), reconnect=Reconnect(enabled=True, interval=3)
    )
    async with serve(server) as endpoint, Client(endpoint.url) as client:
        assert client.hello is not None
        assert client.hello.heartbeat_interval == 7
        assert client.hello.reconnect_interval == 3
        assert client.hello.rules == {"sends_user_object"}


async def test_the_first_connection_is_told_as_initial(endpoint: Endpoint) -> None:
    told: asyncio.Queue[ConnectionInfo] = asyncio.Queue()
    client = Client(endpoint.url)
    client.on_connected(told.put_nowait)
    async with client, asyncio.timeout(LIMIT):
        assert await told.get() == ConnectionInfo(
            is_initial_connection=True,
            is_initial_session_connection=True,
            is_automatic_reconnection=False,
            hello=client.hello,  # type: ignore[arg-type]
        )


async def test_the_connection_is_told_before_what_arrives_with_the_greeting(scripted: ScriptedServer) -> None:
    told: list[object] = []
    client = scripted.client()
    client.on_connected(lambda info: told.append("connected"))
    done = asyncio.Event()

    @client.on_message
    def note(message: Message) -> None:
        told.append(message.type)
        done.set()

    connecting = asyncio.create_task(client.connect())
    visitor = await scripted.visitor()
    await visitor.dispatch("BEFORE")
    await visitor.greet()
    async with asyncio.timeout(LIMIT):
        await connecting
        await done.wait()
    await client.aclose()
    assert told == ["connected", "BEFORE"]


async def test_headers_and_query_reach_the_server(scripted: ScriptedServer) -> None:
    client = Client(f"{scripted.url}?room=1", headers={"Authorization": "Bearer 1"})
    connecting = asyncio.create_task(client.connect())
    visitor = await scripted.guest()
    await connecting
    await client.aclose()
    assert visitor.socket.request is not None
    assert visitor.socket.request.path == "/ws?room=1"
    assert visitor.socket.request.headers["Authorization"] == "Bearer 1"


async def test_connecting_twice_opens_one_connection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    connecting = asyncio.gather(client.connect(), client.connect())
    guest = await scripted.guest()
    await connecting
    await client.connect()
    await client.aclose()
    await guest.closed()
    with pytest.raises(asyncio.QueueEmpty):
        scripted._visitors.get_nowait()


async def test_a_closed_port_is_a_refused_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        told = await failure(f"ws://127.0.0.1:{port}")
    assert told == (
        f"cannot connect to ws://127.0.0.1:{port}: connection refused; "
        "check the address, and that the server is running"
    )


async def test_an_unknown_host_is_said_to_be_unknown() -> None:
    assert "its name cannot be resolved" in await failure("ws://no-such-host.invalid")


async def test_connecting_again_after_a_failure_works(scripted: ScriptedServer) -> None:
    client = scripted.client(IMPATIENT)
    with pytest.raises(ConnectFailed):
        await client.connect()
    await scripted.visitor()
    connecting = asyncio.create_task(client.connect())
    await scripted.guest()
    await connecting
    assert client.is_connected


async def test_a_refused_handshake_tells_its_status() -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return connection.respond(HTTPStatus.FORBIDDEN, "no")

    async def visit(connection: ServerConnection) -> None:
        raise AssertionError("no request gets here")

    async with serve_websockets(visit, "127.0.0.1", 0, process_request=refuse) as server:
        port = server.sockets[0].getsockname()[1]
        assert "expected a WebSocket, got 403 Forbidden" in await failure(f"ws://127.0.0.1:{port}")


async def test_a_redirect_is_not_followed() -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:1/\r\n\r\n")

    async with raw_server(redirect) as url:
        assert "got 302 Found" in await failure(url)


async def test_a_server_that_is_not_http_is_told_as_such() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")

    async with raw_server(babble) as url:
        assert "expected a WebSocket, got something else" in await failure(url)


async def test_a_server_that_hangs_up_is_told_as_such() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(hang_up) as url:
        assert "hung up during the handshake" in await failure(url)


async def test_a_silent_server_is_given_up_and_hung_up_on() -> None:
    hung_up = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        hung_up.set()

    async with raw_server(say_nothing) as url, asyncio.timeout(LIMIT):
        assert "no answer within 0.2 s" in await failure(url, limits=IMPATIENT)
        await hung_up.wait()


async def test_cancelling_in_the_handshake_hangs_up() -> None:
    called, hung_up = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        await reader.read()
        hung_up.set()

    async with raw_server(say_nothing) as url, asyncio.timeout(LIMIT):
        connecting = asyncio.create_task(Client(url).connect())
        await called.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        await hung_up.wait()


async def test_cancelling_at_once_opens_nothing(scripted: ScriptedServer) -> None:
    connecting = asyncio.create_task(scripted.client().connect())
    await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting


async def test_a_host_that_does_not_answer_is_given_up() -> None:
    with ExitStack() as sockets:
        deaf = sockets.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than its queue holds, so that the next one gets no answer
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        told = await failure(f"ws://127.0.0.1:{deaf.getsockname()[1]}", limits=IMPATIENT)
    assert "no answer within 0.2 s" in told


async def test_every_address_of_a_host_is_tried(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()

    loop = asyncio.get_running_loop()
    ask = loop.getaddrinfo

    async def resolve(host: str, port: int, **hints: Any) -> list[Any]:
        if host != "two-addresses.invalid":
            return await ask(host, port, **hints)
        return [*await ask(*closed, **hints), *await ask(endpoint.host, endpoint.port, **hints)]

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    async with Client("ws://two-addresses.invalid") as client:
        assert client.is_connected


async def test_cancelling_before_the_greeting_hangs_up(scripted: ScriptedServer) -> None:
    connecting = asyncio.create_task(scripted.client().connect())
    visitor = await scripted.visitor()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert (await visitor.closed())[0] == 1006


@pytest.fixture
async def guests(scripted: ScriptedServer) -> AsyncIterator[list[Visitor]]:
    """Everybody who came, greeted at once."""
    guests: list[Visitor] = []

    async def greet() -> None:
        while True:
            guests.append(visitor := await scripted.visitor())
            with suppress(PeerClosed):
                await visitor.greet()

    greeting = asyncio.create_task(greet())
    yield guests
    greeting.cancel()


STEPS = 60
"""More than the event loop takes to open a connection."""


async def test_cancelling_at_any_moment_leaves_nothing_open(
    scripted: ScriptedServer, guests: list[Visitor]
) -> None:
    for steps in range(STEPS):
        client = scripted.client()
        connecting = asyncio.create_task(client.connect())
        for _ in range(steps):
            await asyncio.sleep(0)
        connecting.cancel()
        with suppress(asyncio.CancelledError):
            await connecting
        await client.aclose()
    for guest in guests:
        await guest.closed()


async def test_closing_at_any_moment_of_coming_back_leaves_nothing_open(
    scripted: ScriptedServer, guests: list[Visitor]
) -> None:
    for steps in range(STEPS):
        client = scripted.client()
        await client.connect()
        guests[-1].cut()
        for _ in range(steps):
            await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            await client.aclose()
    for guest in guests:
        await guest.closed()


async def test_a_server_without_a_greeting_is_no_mesa_server(scripted: ScriptedServer) -> None:
    with pytest.raises(ConnectFailed, match=r"sent nothing for 0\.2 s; check that it is a Mesa server"):
        await scripted.client(IMPATIENT).connect()


async def test_a_server_that_closes_instead_of_greeting_tells_its_code(scripted: ScriptedServer) -> None:
    connecting = asyncio.create_task(scripted.client().connect())
    await (await scripted.visitor()).close(1013)
    with pytest.raises(ConnectFailed, match="closed the connection with 1013"):
        await connecting


async def test_errors_show_neither_query_nor_headers() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(hang_up) as url:
        assert "secret" not in await failure(url, headers={"Authorization": "secret"})


async def test_nothing_works_before_connecting(endpoint: Endpoint) -> None:
    client = Client(endpoint.url)
    for attempt in (client.send(Message()), client.authenticate({}), anext(client), client.wait_closed()):
        with pytest.raises(MesaError, match="the client is not connected"):
            await attempt


async def test_a_closed_client_does_not_connect(endpoint: Endpoint) -> None:
    client = Client(endpoint.url)
    await client.aclose()
    with pytest.raises(ConnectionClosed):
        await client.connect()


async def test_closing_while_connecting_leaves_no_connection(scripted: ScriptedServer) -> None:
    client = scripted.client()
    connecting = asyncio.create_task(client.connect())
    visitor = await scripted.visitor()
    await client.aclose()
    await visitor.greet()
    with pytest.raises(ConnectionClosed):
        await connecting
    assert await visitor.closed() == (1000, "")
