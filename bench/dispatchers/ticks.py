"""Receiver of ticks over TCP."""

import asyncio
from collections.abc import Callable

Send = Callable[[str], None]


class Ticks(asyncio.Protocol):
    """Calls `send` with each line."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._send(line.decode())


async def listen_for_ticks(send: Send) -> int:
    """Listen on a free port, and return it."""
    server = await asyncio.get_running_loop().create_server(lambda: Ticks(send), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    return port
