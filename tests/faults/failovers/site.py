"""Processes that live through failovers: servers, dispatchers, portals and clients."""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Literal, Self

from tests.faults.chaos.journal import Journal, Record
from tests.faults.chaos.program import Program
from tests.faults.chaos.proxy import Proxy
from tests.faults.chaos.run import until
from tests.ports import free_port

from .redises import Redises

LEASE = 3.0
"""Seconds; about as long as Redis is away, which is the hardest case for leases."""

DOWN_AFTER = 2.0
"""Seconds after which Sentinels consider a master dead."""

START = 60.0
"""Seconds within which all processes have to be ready."""

NAMESPACE = "failovers"
SERVERS = 2
PORTALS = 2
CLIENTS = 40
TRAVELLERS = 8
PACE = 1.0
"""Seconds between two messages of one client to portals."""

DISPATCHERS = ("blocking", "async")

Durability = Literal["memory", "replicated"]

OPTIONS = {"memory": (), "replicated": ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")}
"""Options of each Redis."""


class Site:
    """All processes of a run.

    Args:
        folder: for logs.
        release: which redis-server.
        durability: durability of dispatches and of portals' events.

    Attributes:
        redises: replicated Redis with Sentinels.
        ids: clients that are connected all the time.
        travellers: clients that are away during each failover.
        tunnel: the proxy of these.
    """

    def __init__(self, folder: Path, release: str, durability: Durability) -> None:
        self._folder = folder
        self._durability = durability
        self._ports = [free_port() for _ in range(SERVERS)]
        self.redises = Redises(folder, release, *OPTIONS[durability], down_after=DOWN_AFTER)
        self.ids = [f"client-{number}" for number in range(CLIENTS)]
        self.travellers = [f"traveller-{number}" for number in range(TRAVELLERS)]
        self.tunnel = Proxy(Random(0), *self._ports)

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, release: str, durability: Durability) -> AsyncIterator[Self]:
        """Run all processes until the end of the context."""
        async with AsyncExitStack() as stack:
            site = cls(folder, release, durability)
            await stack.enter_async_context(site.redises.running())
            await stack.enter_async_context(site.tunnel.listening())
            site._cast()
            for stage in (
                {**dict.fromkeys(site.nodes, ("up", 1)), **dict.fromkeys(site.portals, ("up", 1))},
                {site.clients: ("ready", CLIENTS), site.away: ("ready", TRAVELLERS)},
                dict.fromkeys((*site.dispatchers, site.logins), ("confirmed", 1)),
            ):
                for program in stage:
                    await stack.enter_async_context(program.running())
                for program, (word, count) in stage.items():
                    await said(program, word, count)
            yield site

    def leave(self) -> None:
        """Disconnect the travellers."""
        self.tunnel.is_down = True
        self.tunnel.cut()

    async def come_back(self) -> None:
        """Reconnect the travellers, and wait until they receive missed messages."""
        before = Journal(self.away.log)
        for _ in before.news():
            pass
        self.tunnel.heal()
        back: set[str] = set()

        def all_back() -> bool:
            back.update(record[1] for record in before.news() if record[0] == "got")
            return len(back) == TRAVELLERS

        assert await until(all_back, START), f"back are only {back}"

    def _cast(self) -> None:
        where, lease = (self.redises.url, NAMESPACE), str(LEASE)
        urls = [f"ws://127.0.0.1:{port}/" for port in self._ports]
        tunnel = f"ws://127.0.0.1:{self.tunnel.port}/"
        self.nodes = [
            self._program("node", f"node-{n}", *where, lease, self._durability, str(port))
            for n, port in enumerate(self._ports)
        ]
        self.portals = [
            self._program("worker", f"portal-{n}", *where, lease, self._durability) for n in range(PORTALS)
        ]
        self.clients = self._program("clients", "clients", ",".join(urls), str(PACE), *self.ids)
        self.away = self._program("clients", "travellers", tunnel, "0", *self.travellers)
        self.logins = self._program("logins", "logins", *urls)
        self.dispatchers = [self._dispatcher(kind) for kind in DISPATCHERS]

    def records(self, *programs: Program) -> list[Record]:
        """Return the records of programs, in the order of their times."""
        records = [record for program in programs for record in Journal(program.log).timed_news()]
        return sorted(records, key=lambda record: record[0])

    def _dispatcher(self, kind: str) -> Program:
        where, log = (self.redises.url, NAMESPACE), str(self._folder / f"{kind}.log")
        arguments = (kind, kind, self._durability, *where, "failovers", log, *self.ids, *self.travellers)
        return self._program("dispatcher", kind, *arguments, package="chaos")

    def _program(self, module: str, name: str, *arguments: str, package: str = "failovers") -> Program:
        command = [sys.executable, "-m", f"tests.faults.{package}.{module}", *arguments]
        return Program(name, command, self._folder)


async def said(program: Program, word: str, count: int = 1) -> None:
    """Wait until a program has written `count` records of a kind."""

    journal = Journal(program.log)
    words: Counter[str] = Counter()

    def is_said() -> bool:
        words.update(record[0] for record in journal.news())
        return words[word] >= count

    assert await until(is_said, START), f"{program.name}: {program.errors.read_text()[-1500:]}"
