"""Restart the nodes of a cluster one after another, under load, and judge what is noticed."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import NamedTuple, Self

from mesa_ws import AsyncDispatcher, Presence
from mesa_ws.server.fanout import COMING_BACK
from tests.faults.chaos.checker import Verdict
from tests.faults.chaos.journal import Journal, Record
from tests.faults.chaos.program import Program
from tests.faults.chaos.proxy import Proxy
from tests.faults.chaos.records import Received, Sent
from tests.faults.chaos.run import until
from tests.faults.chaos.site import AOF, ClientProcess
from tests.ports import free_port
from tests.redis_server import RedisServer

NODES = 3
CLIENTS = 300
NAMESPACE = "rolling"

LIMIT = 60.0
"""Seconds for each condition; it ends as soon as the condition holds."""

CALM = Presence().grace + 2.0
"""Seconds after a restart in which an id that is taken for gone would be reported."""


class Report(NamedTuple):
    """What came of a rolling restart.

    Attributes:
        clients: as for `run`.
        verdict: of the messages.
        missing: confirmed messages that had not arrived at the end.
        complaints: lost messages, resets and ends that clients reported.
        offline: ids that were reported offline.
        online: ids that were reported online again.
        codes: exit codes of the nodes.
        handshakes: handshakes of each node since the first restart began.
        peaks: of these, most in one second.
        back: seconds after a node was told to stop until clients were back: half of them, and the last.
    """

    clients: int
    verdict: Verdict
    missing: list[str]
    complaints: list[Record]
    offline: list[str]
    online: list[str]
    codes: list[int]
    handshakes: list[int]
    peaks: list[int]
    back: tuple[float, float]

    def __str__(self) -> str:
        pace = f" at the pace of {self.clients}" if self.clients > CLIENTS else ""
        pairs = zip(self.peaks, self.handshakes, strict=True)
        peaks = ", ".join(f"{most} of {all}" for most, all in pairs)
        median, longest = self.back
        return "\n".join(
            [
                f"rolling restart of {NODES} nodes with {CLIENTS} clients{pace}:",
                f"  {self.verdict}",
                f"{len(self.missing)} missing; {len(self.complaints)} losses, resets and ends told",
                f"{len(self.offline)} offline events, {len(self.online)} online events",
                f"handshakes, most in a second of each node: {peaks}",
                f"clients were back {median:.1f} s after a stop began at the median, {longest:.1f} s at most",
            ]
        )


class Site:
    """A Redis, nodes, a dispatcher, clients, and a balancer in front of the nodes.

    Args:
        folder: folder of the logs.
        coming_back: clients that a stopping node asks to come back in each second.
    """

    def __init__(self, folder: Path, coming_back: int) -> None:
        self._redis = RedisServer(folder, *AOF)
        ports = [free_port() for _ in range(NODES)]
        self._balancer = Proxy(Random(1), *ports)
        self._folder = folder
        self._coming_back = str(coming_back)
        self.journals = [folder / f"node-{number}.journal" for number in range(NODES)]
        self.nodes = [self._node(port, journal) for port, journal in zip(ports, self.journals, strict=True)]
        self.ids = tuple(f"client-{number}" for number in range(CLIENTS))
        self.dispatcher: Program
        self.clients: ClientProcess

    @classmethod
    @asynccontextmanager
    async def standing(cls, folder: Path, coming_back: int) -> AsyncIterator[Self]:
        """Run all but the dispatcher, which starts later, until the end of the context."""
        async with AsyncExitStack() as stack:
            site = cls(folder, coming_back)
            stack.callback(site._redis.stop)
            site._redis.start()
            await stack.enter_async_context(site._balancer.listening())
            for node in site.nodes:
                await stack.enter_async_context(node.running())
            assert await until(lambda: all(map(is_up, site.nodes)), LIMIT), site.last_words()
            url = f"ws://127.0.0.1:{site._balancer.port}/"
            program = site._python("clients", "tests.faults.rolling.clients", url, *site.ids)
            site.clients = ClientProcess(await stack.enter_async_context(program.running()), site.ids, True)
            log = str(folder / "dispatcher.log")
            source = ("async", "async", "memory", site._redis.url, NAMESPACE, "1", log, *site.ids)
            site.dispatcher = site._python("dispatcher", "tests.faults.chaos.dispatcher", *source)
            yield site

    async def are_online(self) -> bool:
        """Whether each id has one connection."""
        async with AsyncDispatcher(self._redis.url, namespace=NAMESPACE) as dispatcher:
            return set((await dispatcher.presence.online(self.ids)).values()) == {1}

    def last_words(self) -> str:
        """Return the ends of the logs of nodes."""
        return "\n".join(f"{node.name}: {node.errors.read_text()[-1500:]}" for node in self.nodes)

    def _node(self, port: int, journal: Path) -> Program:
        command = [sys.executable, "-m", "mesa_ws", "serve", "tests.faults.rolling.node:server"]
        environment = {"REDIS": self._redis.url, "NAMESPACE": NAMESPACE, "JOURNAL": str(journal)}
        return Program(
            journal.stem,
            [*command, "--port", str(port)],
            self._folder,
            **environment,
            COMING_BACK=self._coming_back,
            MESA_API_ENABLED="false",
        )

    def _python(self, name: str, module: str, *arguments: str) -> Program:
        return Program(name, [sys.executable, "-m", module, *arguments], self._folder)


def is_up(node: Program) -> bool:
    """Whether a node accepts clients since its last start."""
    return node.log.exists() and node.log.read_text().count("clients at ") == node.starts > 0


async def run(folder: Path, clients: int) -> Report:
    """Restart each node once, and judge. The logs are in `folder`.

    Args:
        folder: folder of the logs.
        clients: the `CLIENTS` are asked to come back as slowly as so many.
    """
    async with Site.standing(folder, COMING_BACK * CLIENTS // clients) as site, AsyncExitStack() as stack:
        received = Received(site.clients)

        def are_ready() -> bool:
            received.read()
            return len(received.ready) == CLIENTS

        assert await until(are_ready, LIMIT), site.last_words()
        await stack.enter_async_context(site.dispatcher.running())
        assert await until(site.dispatcher.log.exists, LIMIT)
        began = time.time()
        stops = [await _restart(site, node) for node in site.nodes]
        await site.dispatcher.finish(LIMIT)
        sent = Sent([site.dispatcher])
        expected = sent.expected(site.clients)

        def is_drained() -> bool:
            received.read()
            return not received.missing(expected)

        await until(is_drained, LIMIT)
        events = [
            [record for record in Journal(each).timed_news() if record[0] >= began] for each in site.journals
        ]
        told = [record for node in events for record in node if record[1] != "shook"]
        shook = [[at for at, kind, *_ in node if kind == "shook"] for node in events]
        return Report(
            clients,
            received.verdict(expected),
            received.missing(expected),
            received.complaints,
            [id for _, kind, id in told if kind == "offline"],
            [id for _, kind, id in told if kind == "online"],
            [code for node in site.nodes for code in node.codes],
            [len(times) for times in shook],
            [most_in_a_second(times) for times in shook],
            _back(Journal(site.clients.program.log).timed_news(), stops),
        )


async def _restart(site: Site, node: Program) -> float:
    """Restart one node, and wait until all clients are back, and longer; return when it was told to stop."""
    starts, stopped = node.starts, time.time()
    node.terminate()
    assert await until(lambda: node.starts > starts and is_up(node), LIMIT), site.last_words()
    async with asyncio.timeout(LIMIT):
        while not await site.are_online():
            await asyncio.sleep(0.1)
    await asyncio.sleep(CALM)
    return stopped


def most_in_a_second(times: Iterable[float]) -> int:
    """Return the largest number of events within one second."""
    times = sorted(times)
    most = first = 0
    for number, at in enumerate(times):
        while at - times[first] >= 1.0:
            first += 1
        most = max(most, number - first + 1)
    return most


def _back(records: Iterable[Record], stops: list[float]) -> tuple[float, float]:
    """Return the seconds from the stop of a node to the logins after it: their median, and the longest."""
    logins = [at for at, kind, *_ in records if kind == "login" and at >= stops[0]]
    times = sorted(at - max(stop for stop in stops if stop <= at) for at in logins)
    return (times[len(times) // 2], times[-1]) if times else (0.0, 0.0)
