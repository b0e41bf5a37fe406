"""A TCP proxy that loses replies and cuts connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards bytes to a port of 127.0.0.1.

    Attributes:
        port: port that it listens on.
        accepted: number of accepted connections.
        loses_replies: whether the proxy drops bytes from the server.
        is_shut: whether new connections are closed at once.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._subscribers: set[asyncio.StreamWriter] = set()
        self._mute: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.accepted = 0
        self.loses_replies = False
        self.is_shut = False

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator["Proxy"]:
        """Run a proxy until the end of the context."""
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            proxy.cut()
            await asyncio.gather(*proxy._tasks, return_exceptions=True)
            await server.wait_closed()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def lead_to(self, target: int) -> None:
        """Forward new connections to another port."""
        self._target = target
        self.cut()

    def cut(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.transport.abort()

    def mute_subscribers(self) -> None:
        """Drop everything that Redis sends to the present subscribers."""
        self._mute |= self._subscribers

    def forget(self) -> None:
        """Drop all bytes of the present connections, like a firewall that has forgotten them."""
        self._forgotten |= self._writers

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self.is_shut:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        for job in (self._send(reader, back, writer), self._reply(there, writer)):
            task = asyncio.create_task(job)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(
        self, reader: asyncio.StreamReader, target: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if b"SUBSCRIBE" in data:
                    self._subscribers.add(back)
                if target not in self._forgotten:
                    target.write(data)
                    await target.drain()
        target.close()

    async def _reply(self, reader: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if not self.loses_replies and target not in self._mute | self._forgotten:
                    target.write(data)
                    await target.drain()
        target.close()
