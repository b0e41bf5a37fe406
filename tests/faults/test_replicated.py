"""Behind Sentinel, a master that was cut off goes on for itself: what it confirmed then.

A dispatcher on each side of the cut: one still reaches the old master, which neither replicas nor
Sentinels do; the other follows Sentinel to the new one. Then the cut heals, and the old master has
to forget what it took alone. What was confirmed by either has to be received by a client after all
of that; with the defaults of Redis it is not, which is shown in figures.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
import redis

from mesa_ws import (
    AsyncDispatcher,
    BackendError,
    Client,
    Connection,
    Message,
    RedisBackend,
    Server,
    User,
    serve,
)
from tests.closing_report import ClosingReport
from tests.redis_server import RedisServer

from .chaos.checker import Expected, Label, check
from .chaos.proxy import Proxy

LIMIT = 30.0
"""Seconds that a failover may take."""

GUARDED = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "1")
"""What a master needs to notice that it is alone."""

ENOUGH = 20
"""Messages that the new master has to confirm before the cut heals."""

CONFIGURATION = """
sentinel monitor mymaster 127.0.0.1 {master} 2
sentinel down-after-milliseconds mymaster 1000
sentinel failover-timeout mymaster 5000
"""


class Site:
    """A master, two replicas and three Sentinels, and the way from the others to the master."""

    def __init__(self, directory: Path, release: str, options: tuple[str, ...]) -> None:
        self._directory = directory
        self._release = release
        self.master, *self.replicas = [self._server(f"redis-{n}", *options) for n in range(3)]
        self.sentinels = [self._server(f"sentinel-{n}") for n in range(3)]
        self.way = Proxy(Random(0), self.master.port)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Site"]:
        async with self.way.listening():
            try:
                await asyncio.to_thread(self._start)
                yield self
            finally:
                for server in (*self.sentinels, *self.replicas, self.master):
                    server.stop()

    @property
    def url(self) -> str:
        """Leads to whoever is master."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{s.port}' for s in self.sentinels)}/mymaster"

    def is_complete(self) -> bool:
        """Whether everybody knows everybody."""
        return self._has_replicas() and all(_knows_all(sentinel) for sentinel in self.sentinels)

    def heal(self) -> None:
        """Let the old master follow the new one, as Sentinel would have it do after 10 seconds."""
        self.way.heal()
        with redis.Redis.from_url(self.sentinels[0].url) as sentinel:
            host, port = sentinel.sentinel_get_master_addr_by_name("mymaster")
        with redis.Redis.from_url(self.master.url) as master:
            master.replicaof(host, port)

    def is_healed(self) -> bool:
        """Whether it does so, and has forgotten what it took alone."""
        with redis.Redis.from_url(self.master.url) as master:
            info = master.info("replication")
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")

    def cut(self) -> None:
        """Leave the master to itself, and to who is on its side."""
        self.way.is_down = True
        self.way.cut()

    def _start(self) -> None:
        """Replicas first: a Sentinel that looks too early looks again only after 10 seconds."""
        for server in (self.master, *self.replicas):
            server.start()
        for replica in self.replicas:
            with redis.Redis.from_url(replica.url) as client:
                client.replicaof("127.0.0.1", str(self.way.port))
        end = time.monotonic() + LIMIT
        while not self._has_replicas() and time.monotonic() < end:
            time.sleep(0.05)
        for number, sentinel in enumerate(self.sentinels):
            configuration = self._directory / f"sentinel-{number}.conf"
            configuration.write_text(CONFIGURATION.format(master=self.way.port))
            sentinel.start(str(configuration), "--sentinel")

    def _has_replicas(self) -> bool:
        with redis.Redis.from_url(self.master.url) as master:
            replication = master.info("replication")
        return [replication.get(f"slave{n}", {}).get("state") for n in range(2)] == ["online"] * 2

    def _server(self, name: str, *options: str) -> RedisServer:
        (self._directory / name).mkdir()
        return RedisServer(
            self._directory / name, "--repl-diskless-sync-delay", "0", *options, release=self._release
        )


def _knows_all(sentinel: RedisServer) -> bool:
    with redis.Redis.from_url(sentinel.url) as client:
        return len(client.sentinel_slaves("mymaster")) == len(client.sentinel_sentinels("mymaster")) == 2


class Side:
    """A dispatcher, and what was confirmed to it."""

    def __init__(
        self, name: str, dispatcher: AsyncDispatcher, durability: Literal["memory", "replicated"]
    ) -> None:
        self._name = name
        self._dispatcher = dispatcher
        self._durability = durability
        self._number = 0
        self.confirmed: dict[Label, int | None] = {}

    async def dispatch(self) -> None:
        """Try to dispatch the next message, once."""
        label = (self._name, self._number)
        self._number += 1
        try:
            await self._dispatcher.dispatch(
                Message(0, {"label": label}, "SPLIT"), ["alice"], durability=self._durability
            )
        except BackendError:
            return
        self.confirmed[label] = None

    async def go_on(self) -> None:
        """Dispatch without an end."""
        while True:
            await self.dispatch()
            await asyncio.sleep(0.05)


@pytest.mark.timeout(4 * LIMIT)
@pytest.mark.parametrize(("durability", "options"), [("replicated", GUARDED), ("memory", ())])
async def test_a_split_brain_loses_no_message_that_was_confirmed_as_replicated(
    durability: Literal["memory", "replicated"],
    options: tuple[str, ...],
    release: str,
    tmp_path: Path,
    namespace: str,
    pytestconfig: pytest.Config,
) -> None:
    async with Site(tmp_path, release, options).running() as site:
        await until(site.is_complete)
        confirmed = await split(site, namespace, durability)
        received = await read_all(site, namespace)
    lost = check("alice", Expected(confirmed, set()), [received]).lost
    guard = "with min-replicas-to-write" if options else "without min-replicas-to-write"
    ClosingReport.of(pytestconfig).add(
        "faults",
        f"split brain on {release}, durability {durability} {guard}: "
        f"{len(confirmed)} confirmed, {len(lost)} lost",
    )
    assert bool(lost) == (durability == "memory"), lost


async def split(
    site: Site, namespace: str, durability: Literal["memory", "replicated"]
) -> dict[Label, int | None]:
    """Dispatch before a split brain, and on both sides of it; what was confirmed by then."""
    async with (
        AsyncDispatcher(site.master.url, namespace=namespace, sync=True, timeout=2.0) as near,
        AsyncDispatcher(site.url, namespace=namespace, sync=True, timeout=2.0) as far,
    ):
        old, new = Side("old", near, durability), Side("new", far, durability)
        async with asyncio.timeout(LIMIT):
            while min(len(old.confirmed), len(new.confirmed)) < ENOUGH:
                await old.dispatch()
                await new.dispatch()
            site.cut()
            before = len(new.confirmed)
            going_on = asyncio.create_task(old.go_on())
            while len(new.confirmed) < before + ENOUGH:
                await new.dispatch()
            going_on.cancel()
            await asyncio.gather(going_on, return_exceptions=True)
        await asyncio.to_thread(site.heal)
        await until(site.is_healed)
        return old.confirmed | new.confirmed


async def read_all(site: Site, namespace: str) -> list[Label]:
    """What a client receives that logs in now; a last message tells that there is no more."""
    server = Server(RedisBackend(site.url, namespace=namespace), sync=True)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    async with AsyncDispatcher(site.url, namespace=namespace, sync=True) as dispatcher:
        await dispatcher.dispatch(Message(0, {"label": ["last", 0]}, "SPLIT"), ["alice"])
    received: list[Label] = []
    async with asyncio.timeout(LIMIT), serve(server) as endpoint, Client(endpoint.url) as client:
        await client.authenticate({"id": "alice"})
        async for message in client:
            source, number = message.data["label"]
            if source == "last":
                break
            received.append((source, number))
    return received


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + LIMIT
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, f"waited {LIMIT:g} s for {holds}"
        await asyncio.sleep(0.05)
