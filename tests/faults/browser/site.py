"""Redis with its log, two servers, nginx in front of them, and a network to nginx that can be harmed."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from time import time
from typing import Self

import redis.asyncio
import redis.exceptions

from tests.faults.chaos.proxy import Proxy
from tests.interop.npm_packages import PROJECT
from tests.nginx import Nginx
from tests.redis_server import RedisServer

AOF = ("--appendonly", "yes", "--appendfsync", "always")
"""What Redis has confirmed, it has on its disk."""

NAMESPACE = "browser"

LIMIT = 30.0
"""Seconds within which a server has to start or to stop."""


class ServerProcess:
    """A server that can be killed, stopped and started again on its port."""

    def __init__(self, redis_url: str, port: int) -> None:
        self._arguments = (redis_url, NAMESPACE, str(port))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, again where it ends by itself, as without Redis, and wait until it takes clients."""
        command = [sys.executable, "-m", "tests.faults.browser.server", *self._arguments]
        async with asyncio.timeout(LIMIT):
            while True:
                self._process = await asyncio.create_subprocess_exec(
                    *command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
                )
                assert self._process.stdout is not None
                if await self._process.stdout.readline():
                    return
                await self._process.wait()

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, and wait until it has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            async with asyncio.timeout(LIMIT):
                await process.wait()


class Site:
    """Everything between a dispatcher and the tabs.

    Args:
        folder: where Redis and nginx write.

    Attributes:
        redis: where messages are stored.
        servers: two.
        network: between clients and nginx.
        flushes: when Redis was emptied, seconds since 1970.
    """

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer(folder, *AOF)
        self.flushes: list[float] = []
        self._nginx = Nginx(folder)
        self.servers: Sequence[ServerProcess] = [
            ServerProcess(self.redis.url, port) for port in self._nginx.servers
        ]
        self.network = Proxy(Random(1), self._nginx.port)

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path) -> AsyncIterator[Self]:
        """Have everything running until the end of the context; skip the test where there is no nginx."""
        site = cls(folder)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(site._nginx.running())
            stack.callback(site.redis.stop)
            await asyncio.to_thread(site.redis.start)
            for server in site.servers:
                stack.push_async_callback(server.end)
            await asyncio.gather(*(server.start() for server in site.servers))
            await stack.enter_async_context(site.network.listening())
            yield site

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"ws://127.0.0.1:{self.network.port}/ws"

    async def flush(self) -> None:
        """Have Redis forget everything, once it has read its log."""
        async with redis.asyncio.Redis.from_url(self.redis.url) as client, asyncio.timeout(LIMIT):
            while True:
                begun = time()
                with suppress(redis.exceptions.BusyLoadingError):
                    await client.flushall()
                    self.flushes.append(begun)
                    return
                await asyncio.sleep(0.05)
