"""Everything that lives through failovers: servers, dispatchers, portals, clients and visitors."""

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Literal, Self

from tests.faults.chaos.journal import Journal, Record
from tests.faults.chaos.program import Program
from tests.faults.chaos.run import until
from tests.ports import free_port

from .redises import Redises

LEASE = 3.0
"""Seconds; about as long as Redis is away, which is the hardest for leases."""

DOWN_AFTER = 2.0
"""Seconds after which Sentinels take a master for dead."""

START = 60.0
"""Seconds within which all have to be there."""

NAMESPACE = "failovers"
SERVERS = 2
PORTALS = 2
CLIENTS = 40
DISPATCHERS = ("blocking", "async")

Durability = Literal["memory", "replicated"]

OPTIONS = {"memory": (), "replicated": ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")}
"""What each Redis is told."""


class Site:
    """What takes part.

    Args:
        folder: for logs.
        release: which redis-server.
        durability: of dispatches and of portals' events.
    """

    def __init__(self, folder: Path, release: str, durability: Durability) -> None:
        self._folder = folder
        self.redises = Redises(folder, release, *OPTIONS[durability], down_after=DOWN_AFTER)
        self.ids = [f"client-{number}" for number in range(CLIENTS)]
        where, lease = (self.redises.url, NAMESPACE), str(LEASE)
        ports = [str(free_port()) for _ in range(SERVERS)]
        urls = [f"ws://127.0.0.1:{port}/" for port in ports]
        self.nodes = [
            self._program("node", f"node-{n}", *where, lease, durability, port)
            for n, port in enumerate(ports)
        ]
        self.portals = [self._program("worker", f"portal-{n}", *where, lease) for n in range(PORTALS)]
        self.audience = self._program("audience", "clients", ",".join(urls), *self.ids)
        self.visitors = self._program("visitor", "visitors", *urls)
        self.dispatchers = [self._dispatcher(kind, durability) for kind in DISPATCHERS]

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, durability: Durability) -> AsyncIterator[Self]:
        """A site where everything runs until the end of the context."""
        async with AsyncExitStack() as stack:
            site = cls(folder, release, durability)
            await stack.enter_async_context(site.redises.running())
            serving = [*site.nodes, *site.portals]
            for programs, word, count in (
                (serving, "up", 1),
                ([site.audience], "ready", CLIENTS),
                ([*site.dispatchers, site.visitors], "confirmed", 1),
            ):
                for program in programs:
                    await stack.enter_async_context(program.running())
                for program in programs:
                    await said(program, word, count)
            yield site

    def records(self, *programs: Program) -> list[Record]:
        """What some programs wrote down, in the order of its times."""
        records = [record for program in programs for record in Journal(program.log).timed_news()]
        return sorted(records, key=lambda record: record[0])

    def _dispatcher(self, kind: str, durability: Durability) -> Program:
        arguments = (kind, kind, durability, self.redises.url, NAMESPACE, "failovers", str(self._log(kind)))
        return self._program("dispatcher", kind, *arguments, *self.ids, package="chaos")

    def _program(self, module: str, name: str, *arguments: str, package: str = "failovers") -> Program:
        command = [sys.executable, "-m", f"tests.faults.{package}.{module}", *arguments]
        return Program(name, command, self._folder)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


async def said(program: Program, word: str, count: int = 1) -> None:
    """Wait until a program has written down something so often."""

    def is_said() -> bool:
        return [record[0] for record in Journal(program.log).news()].count(word) >= count

    assert await until(is_said, START), f"{program.name}: {program.errors.read_text()[-1500:]}"
