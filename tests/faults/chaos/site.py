"""The parts of a run: a Redis, nodes, dispatchers, clients, and the proxies between them."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from tests.interop.npm_packages import NPM, Unavailable, modules, node
from tests.ports import free_port
from tests.redis_server import RedisServer

from .program import Program
from .proxy import Proxy

LEASE = 2.0
"""Seconds; short, so that a node is often paused for longer."""

AOF = ("--appendonly", "yes", "--appendfsync", "always")
"""Options with which confirmed data is on disk, so that a killed Redis loses nothing."""

NAMESPACE = "chaos"
NODES = 3
DISPATCHERS = ("blocking", "async")
CLIENTS = 60
NPM_CLIENTS = 40


class ClientProcess(NamedTuple):
    """A process with clients.

    Attributes:
        is_wire2: whether they are ours; otherwise genuine clients of 1.x.
    """

    program: Program
    ids: tuple[str, ...]
    is_wire2: bool


class Site:
    """The cluster of a run.

    Attributes:
        redis: a Redis with an append-only file.
        redis_ways: proxies from each node and dispatcher to Redis.
        client_way: proxy from clients to any of the nodes.
    """

    def __init__(self, folder: Path, release: str, seed: str) -> None:
        dice = Random(seed)
        self._folder = folder
        self._seed = seed
        self.redis = RedisServer(folder, *AOF, release=release)
        self.redis_lock = asyncio.Lock()
        """Lock of the fault that has stopped Redis, until Redis is back."""
        self._ports = [free_port() for _ in range(NODES)]
        self.redis_ways = [Proxy(dice, self.redis.port) for _ in range(NODES + len(DISPATCHERS))]
        self.client_way = Proxy(dice, *self._ports)
        self.nodes: list[Program] = []
        self.dispatchers: list[Program] = []
        self.client_processes: list[ClientProcess] = []
        self.without_npm = ""
        """Reason why clients of 1.x are missing; empty if they are not."""

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, seed: str) -> AsyncIterator[Self]:
        """Run Redis, proxies and nodes until the end of the context; the other programs start later."""
        async with AsyncExitStack() as stack:
            site = cls(folder, release, seed)
            stack.callback(site.redis.stop)
            site.redis.start()
            for way in (*site.redis_ways, site.client_way):
                await stack.enter_async_context(way.listening())
            site._cast()
            for program in site.nodes:
                await stack.enter_async_context(program.running())
            yield site

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of all clients."""
        return tuple(id for process in self.client_processes for id in process.ids)

    def log(self, name: str) -> Path:
        """Return the path of a log."""
        return self._folder / f"{name}.log"

    def heal(self) -> None:
        """End all lasting faults."""
        for way in (*self.redis_ways, self.client_way):
            way.heal()
        for program in (*self.nodes, *self.dispatchers):
            program.resume()

    def _cast(self) -> None:
        self.client_processes = self._make_client_processes(f"ws://127.0.0.1:{self.client_way.port}/")
        urls = [f"redis://127.0.0.1:{way.port}" for way in self.redis_ways]
        for number, (url, port) in enumerate(zip(urls, self._ports, strict=False)):
            self.nodes.append(self._python("node", f"node-{number}", url, NAMESPACE, str(LEASE), str(port)))
        for kind, url in zip(DISPATCHERS, urls[NODES:], strict=True):
            log = str(self.log(kind))
            arguments = (kind, kind, "memory", url, NAMESPACE, self._seed, log, *self.ids)
            self.dispatchers.append(self._python("dispatcher", kind, *arguments))

    def _make_client_processes(self, url: str) -> list[ClientProcess]:
        ours, theirs = _names("new", CLIENTS), _names("old", NPM_CLIENTS)
        try:
            npm = self._npm(url, theirs)
        except Unavailable as why:
            self.without_npm = str(why)
            npm = ClientProcess(self._python("clients", "more-clients", url, *theirs), theirs, True)
        return [ClientProcess(self._python("clients", "clients", url, *ours), ours, True), npm]

    def _npm(self, url: str, ids: Sequence[str]) -> ClientProcess:
        command = [node(), str(Path(__file__).with_name("npm_clients.js")), url, *ids]
        packages = str(modules(NPM / "package.json"))
        return ClientProcess(
            Program("npm-clients", command, self._folder, NODE_PATH=packages), tuple(ids), False
        )

    def _python(self, module: str, name: str, *arguments: str) -> Program:
        command = [sys.executable, "-m", f"tests.faults.chaos.{module}", *arguments]
        return Program(name, command, self._folder)


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}-{number}" for number in range(count))
