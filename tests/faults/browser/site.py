"""Redis with its append-only file, two servers behind nginx, and a network to nginx that can break."""

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
"""Options with which everything that Redis confirms is on its disk."""

NAMESPACE = "browser"

LIMIT = 30.0
"""Seconds within which a server has to start or stop."""


class ServerProcess:
    """A server that can be killed, stopped and started again on its port."""

    def __init__(self, redis_url: str, port: int) -> None:
        self._arguments = (redis_url, NAMESPACE, str(port))
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the server, again where it ends for lack of Redis, and wait until it accepts clients."""
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
        """Send a signal, and wait until the server has ended."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            async with asyncio.timeout(LIMIT):
                await process.wait()


class Site:
    """Everything between a dispatcher and the tabs.

    Args:
        folder: folder for files of Redis and nginx.

    Attributes:
        redis: the Redis that stores messages.
        servers: the two servers.
        network: proxy between clients and nginx.
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
        """Run everything until the end of the context; skip the test where nginx is missing."""
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
        """URL for clients."""
        return f"ws://127.0.0.1:{self.network.port}/ws"

    async def flush(self) -> None:
        """Empty Redis, once it has read its append-only file."""
        async with redis.asyncio.Redis.from_url(self.redis.url) as client, asyncio.timeout(LIMIT):
            while True:
                begun = time()
                with suppress(redis.exceptions.BusyLoadingError):
                    await client.flushall()
                    self.flushes.append(begun)
                    return
                await asyncio.sleep(0.05)
