"""Clients that leave while back-pressure keeps the server from reading them."""

import asyncio
import ctypes
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mesa_ws.messages.message import Message
from mesa_ws.server.connection import Connection
from mesa_ws.server.send_queue import PeerState
from mesa_ws.transports import liveness, server_socket
from mesa_ws.transports.run import Server, serve

from .peer import LIMIT, Peer

MESSAGES = 500
SOON = {"interval": 0.2, "timeout": 0.2}
SO_ATTACH_FILTER = 26
RESET = struct.pack("ii", 1, 0)


class Case:
    """A client whose messages wait for a handler that does not come to an end.

    Attributes:
        connection: its connection, as the server sees it.
        handled: what has reached the handler.
        go: lets the handler go on.
        told: the codes that `on_disconnection` was told.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.connection: Connection
        self.handled: list[Any] = []
        self.go = asyncio.Event()
        self.told: asyncio.Queue[int] = asyncio.Queue()

    @property
    def client(self) -> socket.socket:
        """A second handle of the client's socket."""
        return socket.socket(fileno=os.dup(self.peer.socket.transport.get_extra_info("socket").fileno()))

    @property
    def server(self) -> Any:
        """The server's socket."""
        return self.connection._transport._socket  # type: ignore[attr-defined]

    @property
    def is_paused(self) -> bool:
        flow = self.connection._flow
        return flow is not None and flow.is_paused

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not holds():
                await asyncio.sleep(0.005)

    async def ends(self) -> int:
        """Wait until the server has ended the connection; return what its handlers were called with."""
        await self.until(lambda: not self.connection.is_open)
        assert len(self.handled) == 1
        self.go.set()
        async with asyncio.timeout(LIMIT):
            return await self.told.get()


@pytest.fixture(params=["plain", "tls"])
def opening(request: pytest.FixtureRequest, certificate: Path) -> Callable[..., Any]:
    """Opens a case, once without TLS and once with it."""
    here = there = None
    if request.param == "tls":
        here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        here.load_cert_chain(certificate)
        there = ssl.create_default_context(cafile=str(certificate))

    @asynccontextmanager
    async def paused(keepalive: Any) -> AsyncIterator[Case]:
        server = Server(limits={"max_queued": 2}, keepalive=keepalive)
        async with serve(server, ssl=here) as endpoint, Peer.connect(endpoint.url, ssl=there) as peer:
            case = Case(peer)

            @server.on_message
            async def hold(message: Message, connection: Connection) -> None:
                case.connection = connection
                case.handled.append(message.data)
                await case.go.wait()

            @server.on_disconnection
            async def tell(connection: Connection, code: int, reason: str) -> None:
                case.told.put_nowait(code)

            for number in range(MESSAGES):
                await peer.send("WORK", number)
            await case.until(lambda: bool(case.handled) and case.is_paused)
            yield case
            case.go.set()
            peer.socket.transport.abort()

    return paused


async def test_a_reset_ends_the_connection(opening: Callable[..., Any]) -> None:
    async with opening(SOON) as case:
        with case.client as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        case.peer.socket.transport.abort()
        assert await case.ends() == 1006


@pytest.mark.parametrize("keepalive", [SOON, SOON | {"enabled": False}])
async def test_a_closed_socket_ends_the_connection_after_a_while(
    opening: Callable[..., Any], keepalive: Any
) -> None:
    async with opening(keepalive) as case:
        with case.client as client:
            client.shutdown(socket.SHUT_WR)
        assert await case.ends() == 1006


async def test_what_was_sent_before_the_socket_was_closed_is_handled(opening: Callable[..., Any]) -> None:
    async with opening({"interval": 0.2, "timeout": 60}) as case:
        with case.client as client:
            client.shutdown(socket.SHUT_WR)
        flow = case.connection._flow
        assert flow is not None
        await case.until(lambda: flow.finished_at is not None)
        assert case.connection.is_open
        case.go.set()
        async with asyncio.timeout(LIMIT):
            assert await case.told.get() == 1006
        assert case.handled == list(range(MESSAGES))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can make a socket deaf")
async def test_silence_ends_the_connection(opening: Callable[..., Any]) -> None:
    async with opening(SOON) as case:
        with case.client as client:
            make_deaf(client)
        case.connection.send(Message(0, "never acknowledged", "A"))
        assert await case.ends() == 1006


async def test_a_client_that_is_there_stays(
    opening: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[PeerState] = []
    look = liveness.peer_state

    def noted(descriptor: int) -> PeerState:
        looks.append(look(descriptor))
        return looks[-1]

    monkeypatch.setattr(server_socket, "peer_state", noted)
    async with opening({"interval": 0.05, "timeout": 0.05}) as case:
        await case.until(lambda: len(looks) > 20)
        assert set(looks) == {PeerState.PRESENT}
        case.go.set()
        await case.until(lambda: len(case.handled) == MESSAGES)
        assert case.connection.is_open


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
async def test_tcp_watches_clients_as_the_keepalive_says(opening: Callable[..., Any]) -> None:
    async with opening({"interval": 25, "timeout": 20}) as case:
        assert [
            case.server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            case.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            case.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            case.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            case.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ] == [1, 25, 5, 4, 45_000]
        case.go.set()
        await case.until(lambda: not case.is_paused)
        assert case.server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0


async def test_without_keepalive_tcp_does_not_watch_either(opening: Callable[..., Any]) -> None:
    async with opening({"enabled": False}) as case:
        assert case.server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0


def make_deaf(client: socket.socket) -> None:
    """Let the kernel drop all that comes for this socket, as if the machine had vanished."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop_all)))
