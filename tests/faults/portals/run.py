"""A run: servers, portals and clients, and the records of handled events."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Self

import redis.asyncio

from mesa_ws import AsyncDispatcher, Client, Message
from mesa_ws.backend.inbox import PARTITIONS
from mesa_ws.backend.redis.keys import Keys
from tests.faults.chaos.journal import Journal
from tests.faults.chaos.program import Program
from tests.ports import free_port
from tests.redis_server import RedisServer

from .load import Load
from .worker import KEEP, SINKS

NAMESPACE = "portals"
LEASE = 1.5
START = 20.0
DRAIN = 40.0
"""Seconds for all programs to start, and for all events to be handled in the end."""

PORTALS = 4
SERVERS = 3

Life = list[Any]
"""Handled events of one connection: kinds and numbers, in the order of their effects."""


class Run:
    """All programs of a run.

    Attributes:
        load: the clients.
        servers: supervised servers; the test kills the first.
        portals: supervised portals.
    """

    def __init__(self, folder: Path, release: str, clients: int) -> None:
        self.redis = RedisServer(folder, release=release)
        ports = [free_port() for _ in range(SERVERS)]
        self.load = Load(ports, clients)
        self._port = ports[-1]
        self.servers = [
            self._program(folder, "server", f"server-{n}", str(port)) for n, port in enumerate(ports)
        ]
        self.portals = [self._program(folder, "worker", f"portal-{n}") for n in range(PORTALS)]

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, clients: int) -> AsyncIterator[Self]:
        async with AsyncExitStack() as stack:
            run = cls(folder, release, clients)
            stack.callback(run.redis.stop)
            run.redis.start()
            for program in (*run.servers, *run.portals):
                await stack.enter_async_context(program.running())
            for program in (*run.servers, *run.portals):
                await run.until_up(program, 1)
            yield run

    async def until_up(self, program: Program, starts: int) -> None:
        """Wait until a program has come up `starts` times."""
        async with asyncio.timeout(START):
            while sum(record == ["up"] for record in Journal(program.log).news()) < starts:
                await asyncio.sleep(0.02)

    async def until_handled(self) -> None:
        """Wait until no connection is open and nothing waits for portals."""
        keys = Keys(NAMESPACE)
        client: Any = redis.asyncio.Redis(port=self.redis.port)
        async with client, asyncio.timeout(DRAIN):
            while True:
                waiting = sum([await client.xlen(keys.queue(n)) for n in range(PARTITIONS)])
                is_open = [name async for name in client.scan_iter(f"{keys.open_connections}*")]
                if waiting == 0 and not is_open:
                    break
                await asyncio.sleep(0.05)
            assert await client.xlen(keys.dead) == 0

    async def lives(self) -> dict[str, tuple[str | None, Life]]:
        """Return the effects that clients receive: connection -> the id of its client, and its life."""
        for portal in self.portals:  # so that they do not handle the connections of the sinks
            await portal.finish(DRAIN)
        lives: dict[str, tuple[str | None, Life]] = {}
        for number in range(SINKS):
            async with asyncio.timeout(DRAIN):
                effects = await self._received(f"sink {number}")
            for connection_id, id, what in effects:
                known, life = lives.get(connection_id, (None, []))
                life.append(what)
                lives[connection_id] = (known or id, life)
        return lives

    async def _received(self, sink: str) -> list[Any]:
        """Return all that a client receives, up to a last message that is sent to it now."""
        effects = []
        async with (
            AsyncDispatcher(self.redis.url, namespace=NAMESPACE, sync=KEEP) as dispatcher,
            Client(f"ws://127.0.0.1:{self._port}/") as client,
        ):
            await client.authenticate({"id": sink})
            await dispatcher.dispatch(Message(0, None, "LAST"), [sink])
            async for message in client:
                if message.type == "LAST":
                    break
                effects.append(message.data)
        return effects

    def handlings(self) -> Counter[tuple[str, int]]:
        """Count how often handling began, by event and number of deliveries."""
        records = (record for portal in self.portals for record in Journal(portal.log).news())
        return Counter((record[1], record[2]) for record in records if record[0] == "begins")

    def _program(self, folder: Path, module: str, name: str, *arguments: str) -> Program:
        command = [sys.executable, "-m", f"tests.faults.portals.{module}", self.redis.url, NAMESPACE]
        return Program(name, [*command, str(LEASE), *arguments], folder)
