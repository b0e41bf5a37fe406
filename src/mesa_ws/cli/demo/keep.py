"""The servers of `mesa demo --keep`: they stay, can be killed, and start again where they were."""

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from ...backend.base import AsyncBus
from ...dispatcher import AsyncDispatcher
from ...dispatcher.buses import async_bus
from .processes import START_LIMIT, DemoFailed, ServerRun, environment, server
from .stage import LISTEN, REPLICAS

Storage = Literal["memory", "own redis", "redis"]
"""Where outboxes are kept: in the server itself, in a Redis of the demo, in one that was named."""

OLDEST_REDIS = 7

PATIENCE = 2.0
"""Seconds a dispatch may take before the page says that it failed."""


class KeptServer:
    """A server process that can be killed, and started again on the ports it had.

    Args:
        name: what the page calls it.
        arguments: of `mesa serve`; the ports are 0, and stay what they were at the first start.
        settings: the environment of the process.
    """

    def __init__(self, name: str, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.name = name
        self.url = ""
        self.api_url: str | None = None
        self._arguments = arguments
        self._settings = settings
        self._turn = asyncio.Lock()
        self._process = AsyncExitStack()
        self._run: ServerRun | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._run is not None and self._run.is_running

    async def start(self) -> None:
        """Start it, unless it runs.

        Raises:
            DemoFailed: it did not start.
        """
        async with self._turn:
            if not self.is_running:
                await self._process.aclose()
                arguments = (*self._arguments, *self._ports())
                run = await self._process.enter_async_context(server(arguments, self._settings))
                self._run, self.url, self.api_url = run, run.url, run.api_url

    async def kill(self) -> None:
        """End it as `kill -9` does, unless it is dead."""
        async with self._turn:
            if self._run is not None:
                await self._run.kill()

    async def stop(self) -> None:
        """Stop it in order."""
        async with self._turn:
            await self._process.aclose()

    def _ports(self) -> tuple[str, ...]:
        if not self.url:
            return ()
        ports = ("--port", str(urlsplit(self.url).port))
        return ports if self.api_url is None else (*ports, "--api-port", str(urlsplit(self.api_url).port))


class Kept(NamedTuple):
    """Servers that stay, and the way to them.

    Attributes:
        storage: where outboxes are kept.
        servers: one, or replicas on one Redis.
        dispatcher: sends messages that are stored until they are received.
        bus: answers how far outboxes are.
    """

    storage: Storage
    servers: Sequence[KeptServer]
    dispatcher: AsyncDispatcher
    bus: AsyncBus


@asynccontextmanager
async def kept(redis: str | None) -> AsyncIterator[Kept]:
    """Run the servers for as long as the block lasts.

    Args:
        redis: URI of the Redis that replicas share. Without one, the `redis-server` on the PATH is
            started; where there is none, or an old one, one server keeps everything in its memory.

    Raises:
        DemoFailed: a process did not start.
    """
    async with AsyncExitStack() as running:
        storage: Storage = "redis"
        program = await _redis_server() if redis is None else None
        if program is not None:
            storage, redis = "own redis", await running.enter_async_context(_own_redis(program))
        if redis is None:
            yield await _alone(running)
        else:
            yield await _on_redis(running, redis, storage)


async def _alone(running: AsyncExitStack) -> Kept:
    key = secrets.token_urlsafe(24)
    [one] = await _started(running, ["A"], (*LISTEN, "--api-port", "0"), {"MESA_API_KEY": key})
    return await _reached(running, "memory", [one], one.api_url or "", key=key)


async def _on_redis(running: AsyncExitStack, redis: str, storage: Storage) -> Kept:
    namespace = f"demo-{secrets.token_hex(8)}"
    settings = {"MESA_REDIS": redis, "MESA_NAMESPACE": namespace}
    names = [chr(ord("A") + index) for index in range(REPLICAS)]
    servers = await _started(running, names, (*LISTEN, "--no-api"), settings)
    return await _reached(running, storage, servers, redis, namespace=namespace)


async def _started(
    running: AsyncExitStack, names: Sequence[str], arguments: tuple[str, ...], settings: Mapping[str, str]
) -> list[KeptServer]:
    servers = [KeptServer(name, arguments, settings) for name in names]
    for each in servers:
        running.push_async_callback(each.stop)
    await asyncio.gather(*(each.start() for each in servers))
    return servers


async def _reached(
    running: AsyncExitStack,
    storage: Storage,
    servers: Sequence[KeptServer],
    url: str,
    *,
    namespace: str | None = None,
    key: str | None = None,
) -> Kept:
    dispatcher = AsyncDispatcher(url, namespace=namespace, key=key, sync=True, timeout=PATIENCE)
    await running.enter_async_context(dispatcher)
    await dispatcher.presence.count()  # so that the first dispatch does not have to connect first
    bus = async_bus(url, namespace=namespace, key=key, timeout=PATIENCE)
    running.push_async_callback(bus.aclose)
    return Kept(storage, servers, dispatcher, bus)


async def _redis_server() -> str | None:
    """Return the path of the `redis-server` on the PATH, if there is one that is new enough."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    asking = await asyncio.create_subprocess_exec(program, "--version", stdout=asyncio.subprocess.PIPE)
    output, _ = await asking.communicate()
    version = re.search(rb"v=(\d+)", output)
    return program if version is not None and int(version[1]) >= OLDEST_REDIS else None


@asynccontextmanager
async def _own_redis(program: str) -> AsyncIterator[str]:
    """Run a Redis that only this user can reach, on a socket in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="mesa-demo-") as directory:
        path = Path(directory) / "redis.sock"
        process = await asyncio.create_subprocess_exec(
            program,
            *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", directory),
            *("--save", "", "--appendonly", "yes"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment({}),
        )
        try:
            await _answering(process, path)
            yield f"unix://{path}"
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # nothing that it keeps is needed any more
            await process.wait()


async def _answering(process: asyncio.subprocess.Process, path: Path) -> None:
    """Wait until it takes connections."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_LIMIT):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(os.fspath(path))
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise DemoFailed("redis-server did not start; --redis names one that runs")
