"""A server that measures the turns of its event loop.

Arguments: the URL of a Redis; seconds of silence after which a client gets a Ping.

It runs with `Server.run`, as an application would run it, and obeys orders besides.
"""

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mesa_ws import Connection, Message, Server, User

from ..servers.orders import answer, read_orders

PERIOD = 0.001
"""Seconds from one look at the clock to the next."""

redis, interval = sys.argv[1:]

# Clients do not answer Pings: each gets one, and is kept all the same.
server = Server(redis, namespace="turns", sync=True, keepalive={"interval": float(interval), "timeout": 600})


class Turns:
    """Looks at the clock all the time, and remembers the longest times in between."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._collecting_since = 0.0
        gc.callbacks.append(self._on_collection)
        self.forget()

    def start(self) -> None:
        """Begin to measure, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.forget()
        self._wait()

    def forget(self) -> None:
        """Measure from now on."""
        self.wall = self.cpu = self.collector = 0.0
        self._looked_at, self._computed = time.perf_counter(), time.thread_time()

    def longest(self) -> dict[str, float]:
        """Return the longest turn, in seconds."""
        return {"wall": self.wall, "cpu": self.cpu, "collector": self.collector}

    def _wait(self) -> None:
        self._loop.call_later(PERIOD, self._look)

    def _look(self) -> None:
        now, computed = time.perf_counter(), time.thread_time()
        self.wall = max(self.wall, now - self._looked_at - PERIOD)
        self.cpu = max(self.cpu, computed - self._computed)
        self._looked_at, self._computed = now, computed
        self._wait()

    def _on_collection(self, phase: str, info: dict[str, int]) -> None:
        now = time.perf_counter()
        if phase == "start":
            self._collecting_since = now
        else:
            self.collector = max(self.collector, now - self._collecting_since)


turns = Turns()


@server.authenticator
async def authenticate(data: dict[str, Any], connection: Connection) -> User:
    return User(data["id"])


async def everybody(data: Any, type: str, sync: bool) -> None:
    await server.send(Message(0, data, type, sync=sync))


@asynccontextmanager
async def obeying() -> AsyncIterator[None]:
    """Obey orders while the server runs."""
    turns.start()
    reading = asyncio.ensure_future(_obey())
    try:
        yield
    finally:
        reading.cancel()
        turns.forget()


async def _obey() -> None:
    orders: dict[str, Callable[..., Awaitable[None]]] = {"everybody": everybody}
    async for order, details in read_orders():
        if order in orders:
            await orders[order](**details)
        answer(turns.longest())
        if order not in orders:
            turns.forget()


server.run("127.0.0.1", 0, obeying(), on_start=lambda endpoint: answer({"port": endpoint.port}))
answer(turns.longest())
