"""Clients that are not ours: one by the `websockets` library, one that sends raw bytes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

LIMIT = 30.0
"""Seconds after which a test that waits has failed."""


class Peer:
    """A WebSocket client that speaks frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, **options: Any) -> AsyncIterator[Self]:
        async with connect(url, proxy=None, ping_interval=None, compression=None, **options) as socket:
            yield cls(socket)

    async def send(self, type: str | None = None, data: Any = None, op: int = 0) -> None:
        await self.raw(json.dumps({"op": op, "d": data, "t": type}))

    async def raw(self, payload: str | bytes) -> None:
        await self.socket.send(payload)

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(LIMIT):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.frames.append(frame)
        return frame

    async def until(self, **members: Any) -> dict[str, Any]:
        """Receive until a frame has these members."""
        while True:
            frame = await self.receive()
            if members.items() <= frame.items():
                return frame

    async def authenticate(self, id: str) -> Any:
        await self.send(data={"id": id}, op=2)
        return (await self.until(op=22))["d"]

    async def log_in(
        self, id: str, *, resume: Any = None, wire: int = 1, should_sync: bool = True
    ) -> dict[str, Any]:
        """Authenticate as clients do, with wire 2 if asked; return the acknowledgement's `x`."""
        frame: dict[str, Any] = {"op": 2, "d": {"id": id, "shouldSync": should_sync}}
        if wire == 2:
            frame["x"] = {"v": 2} | ({"resume": resume} if resume is not None else {})
        await self.raw(json.dumps(frame))
        return dict((await self.until(op=22)).get("x", {}))

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """Receive that many messages without answering heartbeats."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            frame = await self.receive()
            if frame["op"] == 0:
                found.append(frame)
        return found

    async def answer(self) -> None:
        """Wait for a heartbeat and answer it, as clients do after handling what came before."""
        await self.until(op=1)
        await self.raw('{"op":11,"d":{}}')

    async def acknowledge(self, epoch: str, sequence: int) -> None:
        """Say on wire 2 what was handled."""
        await self.raw(json.dumps({"op": 3, "d": {"e": epoch, "s": sequence}}))

    async def closed(self) -> int:
        """Receive until the server closes; return its close code, 1006 if there was none."""
        with suppress(ConnectionClosed):
            while True:
                await self.receive()
        code = self.socket.close_code
        assert code is not None
        return code

    async def received(self, type: str) -> list[Any]:
        """What came of one type, up to the answer of a last PING."""
        await self.send("PING")
        await self.until(t="PONG")
        return [frame["d"] for frame in self.frames if frame.get("t") == type]


class RawPeer:
    """A TCP client that can send what no WebSocket library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def connect(cls, host: str, port: int, limit: int = 65536) -> AsyncIterator[Self]:
        reader, writer = await asyncio.open_connection(host, port, limit=limit)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def request(self, head: str) -> str:
        """Send an HTTP request; return the status line and the header fields of the answer.

        Bytes that are not UTF-8 are written as Python writes them in names of files: `\\udcff` is 255.
        """
        self.writer.write(head.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n\r\n")
        async with asyncio.timeout(LIMIT):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self, request: bytes) -> tuple[int, dict[str, str]]:
        """Send an HTTP request; return the status of the answer and its header fields."""
        self.writer.write(request)
        async with asyncio.timeout(LIMIT):
            status, *fields = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        return int(status.split()[1]), dict(field.split(": ", 1) for field in fields)

    async def upgrade(self, path: str = "/", extra: str = "") -> str:
        return await self.request(
            f"GET {path} HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n"
            f"Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=={extra}"
        )

    async def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> None:
        """Send one masked frame; the mask is zero, so the payload stands as it is."""
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2)
        self.writer.write(bytes([fin << 7 | rsv << 4 | opcode]) + length + bytes(4) + payload)
        await self.writer.drain()

    async def next_frame(self) -> tuple[int, bytes]:
        """Read one unmasked frame: opcode and payload."""
        async with asyncio.timeout(LIMIT):
            first, length = await self.reader.readexactly(2)
            size = int.from_bytes(await self.reader.readexactly(2)) if length == 126 else length
            return first & 15, await self.reader.readexactly(size)

    async def close_frame(self) -> bytes:
        """Read until the close frame; return its payload."""
        while True:
            opcode, payload = await self.next_frame()
            if opcode == 8:
                return payload

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame; return its opcode and its payload."""
        first, size = await self.reader.readexactly(2)
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        return first & 15, await self.reader.readexactly(size)
