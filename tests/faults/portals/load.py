"""Load of clients that send numbers at a steady pace, and change the server when theirs is gone."""

import asyncio
import json
from collections.abc import Awaitable
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

PACE = 0.1
"""Seconds between two messages of a client; clients take turns, so that messages are always under way."""


class Load:
    """Clients, and the numbers that they have sent.

    Args:
        ports: ports of the servers; clients are spread over them.
        size: number of clients.

    Attributes:
        sent: id of each connection -> how many numbers it sent from 0 on. No two have the same id.
        complete: ids that closed with 1000, so that all their messages have arrived.
        took: seconds from the first message to the last.
    """

    def __init__(self, ports: list[int], size: int) -> None:
        self._ports = ports
        self._size = size
        self._is_over = asyncio.Event()
        self.sent: dict[str, int] = {}
        self.complete: set[str] = set()
        self.took = 0.0

    async def run(self, until: Awaitable[None], count: int) -> None:
        """Send until an awaitable is done and `count` numbers have been sent; then close."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for number in range(self._size):
                tasks.create_task(self._live(number))
            await until
            while sum(self.sent.values()) < count:
                await asyncio.sleep(PACE)
            self._is_over.set()
            self.took = loop.time() - began

    async def _live(self, number: int) -> None:
        attempt = 0
        while not self._is_over.is_set():
            port = self._ports[(number + attempt) % len(self._ports)]
            attempt += 1
            with suppress(OSError, TimeoutError, WebSocketException):
                url = f"ws://127.0.0.1:{port}/"
                async with connect(url, proxy=None, ping_interval=None, compression=None) as socket:
                    await self._talk(socket, f"{number}.{attempt}", number / self._size * PACE)
            with suppress(TimeoutError):
                async with asyncio.timeout(PACE):
                    await self._is_over.wait()

    async def _talk(self, socket: ClientConnection, id: str, phase: float) -> None:
        await socket.send(json.dumps({"op": 2, "d": {"id": id}}))
        while json.loads(await socket.recv())["op"] != 22:
            pass
        self.sent[id] = 0
        loop = asyncio.get_running_loop()
        due = (loop.time() // PACE + 1) * PACE + phase
        while not self._is_over.is_set():
            await asyncio.sleep(max(0.0, due - loop.time()))
            await socket.send(json.dumps({"op": 0, "d": self.sent[id]}))
            self.sent[id] += 1
            due += PACE
        await socket.close()
        if socket.close_code == 1000:
            self.complete.add(id)
