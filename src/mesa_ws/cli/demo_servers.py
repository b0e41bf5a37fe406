"""The processes of the demo: its servers and its Redis, and `mesa dispatch`. None outlives the demo."""

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Literal, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ..errors import MesaError

START_LIMIT = 30.0
"""Seconds a process gets to start and do its work; a busy machine needs many."""

STOP_LIMIT = 10.0
"""Seconds a server gets to stop before it is killed."""

REPLICAS = 2

OLDEST_REDIS = 7

Storage = Literal["memory", "own redis", "redis"]
"""Where the outboxes are: in the server itself, in a Redis of the demo, or in the user's Redis."""

_LISTEN = ("--insecure-demo-auth", "--host", "127.0.0.1", "--port", "0", "--log-level", "warning")


class DemoFailed(MesaError):
    """A part of the demo failed."""


class _Started(msgspec.Struct):
    """The output of a server that has started."""

    url: str
    api_url: str | None


class DemoServer:
    """A `mesa serve` process, which can be killed, and started again on the ports it had.

    Args:
        name: its name on the page.
        arguments: the arguments of `mesa serve`; port 0 becomes the port of the first start.
        settings: the environment of the process.

    Attributes:
        url: the URL that clients connect to; empty before the first start.
        api_url: the URL of its dispatch API, if it has one.
    """

    def __init__(self, name: str, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.name = name
        self.url = ""
        self.api_url: str | None = None
        self._arguments = arguments
        self._settings = settings
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the server, unless it runs."""
        async with self._turn:
            if self.is_running:
                return
            arguments = ("serve", "--config", os.devnull, "--json", *self._arguments, *self._ports())
            with tempfile.TemporaryFile() as errors:
                self._process = await _start(arguments, self._settings, errors)
                try:
                    started = await _started(self._process, errors)
                except BaseException:
                    await _stop(self._process)
                    raise
            self.url, self.api_url = started.url, started.api_url

    async def kill(self) -> None:
        """Kill the server as `kill -9` does, if it runs."""
        async with self._turn:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    async def stop(self) -> None:
        """Stop the server cleanly, if it runs."""
        async with self._turn:
            if self._process is not None:
                await _stop(self._process)

    def _ports(self) -> tuple[str, ...]:
        if not self.url:
            return ()
        ports = ("--port", str(urlsplit(self.url).port))
        return ports if self.api_url is None else (*ports, "--api-port", str(urlsplit(self.api_url).port))


class DemoServers(NamedTuple):
    """The servers of the demo, and how dispatchers reach them.

    Attributes:
        storage: where the outboxes are.
        servers: one, or replicas on one Redis.
        url: the address for dispatchers.
        key: the key of the dispatch API, if that is the address.
        namespace: the namespace in Redis, if that is the address.
    """

    storage: Storage
    servers: Sequence[DemoServer]
    url: str
    key: str | None = None
    namespace: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables with which `mesa dispatch` reaches the servers."""
        given = {"MESA_URL": self.url, "MESA_API_KEY": self.key, "MESA_NAMESPACE": self.namespace}
        return {name: value for name, value in given.items() if value is not None}


@asynccontextmanager
async def running_servers(redis: str | None, *, starts_redis: bool) -> AsyncIterator[DemoServers]:
    """Run replicas on a Redis, or one server that keeps everything in its memory, until the block ends.

    Args:
        redis: URI of the Redis that replicas share.
        starts_redis: start the `redis-server` on the PATH, if it is new enough, where no Redis is given.
    """
    async with AsyncExitStack() as running:
        storage: Storage = "redis"
        program = await _redis_server() if starts_redis and redis is None else None
        if program is not None:
            storage, redis = "own redis", await running.enter_async_context(_own_redis(program))
        if redis is None:
            key = secrets.token_urlsafe(24)
            [one] = await _run(running, 1, ("--api-port", "0"), {"MESA_API_KEY": key})
            yield DemoServers("memory", [one], one.api_url or "", key=key)
        else:
            namespace = f"demo-{secrets.token_hex(8)}"
            settings = {"MESA_REDIS": redis, "MESA_NAMESPACE": namespace}
            servers = await _run(running, REPLICAS, ("--no-api",), settings)
            yield DemoServers(storage, servers, redis, namespace=namespace)


async def _run(
    running: AsyncExitStack, count: int, arguments: tuple[str, ...], settings: Mapping[str, str]
) -> list[DemoServer]:
    servers = [DemoServer(name, (*_LISTEN, *arguments), settings) for name in "ABCDEFGH"[:count]]
    for each in servers:
        running.push_async_callback(each.stop)
    await asyncio.gather(*(each.start() for each in servers))
    return servers


class DispatchRun(NamedTuple):
    """A dispatch: the process that made it, and when, in seconds since 1970."""

    pid: int
    dispatched_at: float


async def dispatch(arguments: tuple[str, ...], settings: Mapping[str, str]) -> DispatchRun:
    """Run `mesa dispatch` to its end."""
    with tempfile.TemporaryFile() as errors:
        process = await _start(("dispatch", "--json", *arguments), settings, errors)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), START_LIMIT)
        except TimeoutError:
            raise DemoFailed(f"the dispatch did not end within {START_LIMIT:g} s") from None
        finally:
            await _stop(process)
        if process.returncode != 0:
            raise DemoFailed(f"the dispatch failed: {_said(errors)}")
    return DispatchRun(process.pid, msgspec.json.decode(output)["dispatched_at"])


async def _start(
    arguments: tuple[str, ...], settings: Mapping[str, str], errors: IO[bytes]
) -> asyncio.subprocess.Process:
    # -P: a file in the working directory must not replace a library.
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "mesa_ws",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
        env=_environment(settings),
    )


async def _started(process: asyncio.subprocess.Process, errors: IO[bytes]) -> _Started:
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        line = await asyncio.wait_for(process.stdout.readline(), START_LIMIT)
    except TimeoutError:
        raise DemoFailed(f"the server did not start within {START_LIMIT:g} s") from None
    if not line:
        # Terminating a process that has just ended would take its exit code from the event loop.
        await process.wait()
        why = _said(errors).removesuffix(" (address: MESA_REDIS)")  # that variable is the demo's doing
        raise DemoFailed(f"the server did not start: {why}")
    return msgspec.json.decode(line, type=_Started)


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_LIMIT)
    except TimeoutError:
        process.kill()
        await process.wait()


def _said(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("Error: ") if lines else "it said nothing"


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the demo's processes: `settings` instead of the user's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESA_")}
    return {**kept, **settings}


async def _redis_server() -> str | None:
    """Return the path of the `redis-server` on the PATH, if it is new enough."""
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
            env=_environment({}),
        )
        try:
            await _answering(process, path)
            yield f"unix://{path}"
        finally:
            with suppress(ProcessLookupError):
                process.kill()  # nothing in it is needed any more
            await process.wait()


async def _answering(process: asyncio.subprocess.Process, path: Path) -> None:
    """Wait until Redis accepts connections."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_LIMIT):
            while process.returncode is None:
                with suppress(OSError):
                    _, writer = await asyncio.open_unix_connection(os.fspath(path))
                    writer.close()
                    return
                await asyncio.sleep(0.02)
    raise DemoFailed("redis-server did not start; --redis names one that runs")
