"""A server that does what a test says, also what no server should do."""

import asyncio
import json
from contextlib import suppress
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from mesa_ws.client import Client, ClientLimits, Reconnection
from mesa_ws.messages.message import Message

LIMIT = 30.0
"""Seconds after which a test that waits has failed."""

SOON = Reconnection(interval=0.001, max_pause=0.002)
"""Comes back as soon as it can."""

HELLO: dict[str, Any] = {"rules": ["sends_user_object"]}


class Visitor:
    """A client, seen from the scripted server.

    It is not read but by `receive`, so a test can be a server that does not read.
    """

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.is_done = asyncio.Event()

    async def greet(self, **announced: Any) -> Self:
        await self.send(op=10, d=HELLO | announced)
        return self

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def dispatch(self, type: str, data: Any = None) -> None:
        await self.send(op=0, d=data, t=type)

    def write(self, data: bytes) -> None:
        """Put bytes on the wire that the library would not."""
        self.socket.transport.write(data)

    async def receive(self) -> Any:
        async with asyncio.timeout(LIMIT):
            return json.loads(await self.socket.recv())

    async def authentication(self) -> dict[str, Any]:
        """The data of the authentication that comes next."""
        frame = await self.receive()
        assert frame["op"] == 2
        data: dict[str, Any] = frame["d"]
        return data

    async def welcome(self, **user: Any) -> dict[str, Any]:
        """Accept the authentication that comes next."""
        data = await self.authentication()
        await self.send(op=22, d=user)
        return data

    async def types(self, count: int) -> list[str]:
        """The types of the next messages."""
        return [(await self.receive())["t"] for _ in range(count)]

    async def close(self, code: int = 1000, reason: str = "") -> None:
        async with asyncio.timeout(LIMIT):
            await self.socket.close(code, reason)

    def cut(self) -> None:
        """End the connection without a word."""
        self.socket.transport.abort()

    async def closed(self) -> tuple[int, str]:
        """How the client ended the connection; what it sent before is dropped."""
        async with asyncio.timeout(LIMIT):
            with suppress(ConnectionClosed):
                while True:
                    await self.socket.recv()
            await self.socket.wait_closed()
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""


class ScriptedServer:
    """Listens, and hands every client to the test; ends the clients that it made."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._visitors: asyncio.Queue[Visitor] = asyncio.Queue()
        self._server: Server
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._visit, "127.0.0.1", self.port, ping_interval=None, close_timeout=LIMIT, max_size=None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *raised: object) -> None:
        for client in self._clients:
            await client.aclose()
        for connection in self._server.connections:
            connection.transport.abort()
        self._server.close()
        await self._server.wait_closed()

    def client(self, limits: ClientLimits | None = None, **options: Any) -> Client:
        """A client of this server that is quick to come back, and to give up."""
        options.setdefault("reconnect", SOON)
        client = Client(self.url, limits=limits or ClientLimits(close_timeout=0.2), **options)
        self._clients.append(client)
        return client

    async def visitor(self) -> Visitor:
        """The next client; it has not been greeted."""
        async with asyncio.timeout(LIMIT):
            return await self._visitors.get()

    async def guest(self, **announced: Any) -> Visitor:
        """The next client, greeted."""
        return await (await self.visitor()).greet(**announced)

    async def _visit(self, socket: ServerConnection) -> None:
        await self._visitors.put(Visitor(socket))
        await socket.wait_closed()


def message(type: str, data: Any = None) -> Message:
    return Message(0, data, type)


def frame(opcode: int, payload: bytes, *, fin: bool = True, reserved: int = 0, mask: bytes = b"") -> bytes:
    """A WebSocket frame as it stands on the wire (RFC 6455 section 5.2), right or wrong."""
    length = bytes([len(payload)]) if len(payload) < 126 else b"\x7e" + len(payload).to_bytes(2)
    length = bytes([length[0] | (0x80 if mask else 0)]) + length[1:]
    return bytes([fin << 7 | reserved << 4 | opcode]) + length + mask + payload


CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
