"""Redis with two replicas and three Sentinels, each behind a proxy that can be cut.

Sentinels and replicas connect from an address of their own. A master can be cut off from them while
other processes still reach it, which is how a network splits a cluster.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Self

import redis
from redis.exceptions import RedisError

from tests.faults.chaos.proxy import Proxy
from tests.redis_server import RedisServer

LIMIT = 40.0
"""Seconds within which Sentinel has to act."""

PAUSE = 0.1
"""Seconds between two checks of a condition."""

INSIDE = "127.0.0.2"
"""Address from which replicas and Sentinels connect."""

SERVICE = "mymaster"

CONFIGURATION = """
sentinel monitor {service} 127.0.0.1 {master} 2
sentinel down-after-milliseconds {service} {down_after}
sentinel failover-timeout {service} 5000
sentinel announce-ip 127.0.0.1
"""


class Member:
    """One Redis behind a proxy; all other processes know the port of the proxy.

    Args:
        directory: where it may write.
        release: which redis-server.
        options: of its command line.
    """

    def __init__(self, directory: Path, release: str, *options: str) -> None:
        directory.mkdir()
        common = ("--repl-diskless-sync-delay", "0", "--bind-source-addr", INSIDE)
        self.server = RedisServer(directory, *common, *options, release=release)
        self.way = Proxy(Random(0), self.server.port)

    def start(self) -> None:
        """Start Redis, empty."""
        port = str(self.way.port)
        self.server.start("--replica-announce-ip", "127.0.0.1", "--replica-announce-port", port)

    def follow(self, port: int) -> None:
        """Make Redis a replica of the master at a port."""
        with _client(self.server) as client:
            client.replicaof("127.0.0.1", str(port))

    def replication(self) -> dict[str, Any]:
        """Return the replication section of INFO."""
        with _client(self.server) as client:
            info: dict[str, Any] = client.info("replication")
            return info

    def is_master_of(self, others: int) -> bool:
        """Return whether this is a master with so many replicas that are up to date."""
        info = self.replication()
        states = [info.get(f"slave{n}", {}).get("state") for n in range(others)]
        return info["role"] == "master" and states == ["online"] * others

    def is_replica(self) -> bool:
        """Return whether this is a replica, and has dropped what it accepted alone."""
        info = self.replication()
        return bool(info["role"] == "slave" and info["master_link_status"] == "up")


class Redises:
    """A master, two replicas, and three Sentinels.

    Args:
        directory: where they may write.
        release: which redis-server.
        options: of each Redis.
        down_after: seconds after which Sentinels take a master for dead.
    """

    def __init__(self, directory: Path, release: str, *options: str, down_after: float = 1.0) -> None:
        self._directory = directory
        self._down_after = down_after
        self.members = [Member(directory / f"redis-{n}", release, *options) for n in range(3)]
        self.sentinels = [Member(directory / f"sentinel-{n}", release) for n in range(3)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run all of them until the end of the context; they know each other at its beginning."""
        async with AsyncExitStack() as stack:
            for member in self.members:
                await stack.enter_async_context(member.way.listening())
            for each in (*self.members, *self.sentinels):
                stack.callback(each.server.stop)
            await asyncio.to_thread(self._start)
            await until(self.is_whole)
            yield self

    @property
    def url(self) -> str:
        """URL of the Sentinels, which leads to the current master."""
        hosts = ",".join(f"127.0.0.1:{each.server.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> Member:
        """Return the master that the first Sentinel reports."""
        return self._member(_master_port(self.sentinels[0].server))

    def successor(self, old: Member) -> Member | None:
        """Return a new master that any Sentinel reports; None as long as all report the old one."""
        ports = (_master_port(each.server) for each in self.sentinels)
        return next((self._member(port) for port in ports if port != old.way.port), None)

    def fail_over(self) -> None:
        """Request a failover from a Sentinel, which may refuse for now."""
        with suppress(RedisError), _client(self.sentinels[0].server) as client:
            client.execute_command("SENTINEL FAILOVER", SERVICE)

    def is_whole(self) -> bool:
        """Return whether all Sentinels report one master, two replicas follow it, and all know each other."""
        masters = {_master_port(each.server) for each in self.sentinels}
        with suppress(RedisError, OSError):
            return (
                len(masters) == 1
                and self._member(*masters).is_master_of(2)
                and all(_knows_all(each.server) for each in self.sentinels)
            )
        return False

    def _start(self) -> None:
        """Start replicas first: a Sentinel that looks too early looks again only after 10 seconds."""
        master, *replicas = self.members
        for member in self.members:
            member.start()
        for replica in replicas:
            replica.follow(master.way.port)
        end = time.monotonic() + LIMIT
        while not master.is_master_of(2) and time.monotonic() < end:
            time.sleep(0.05)
        for number, sentinel in enumerate(self.sentinels):
            file = self._directory / f"sentinel-{number}.conf"
            milliseconds = round(self._down_after * 1000)
            text = CONFIGURATION.format(service=SERVICE, master=master.way.port, down_after=milliseconds)
            file.write_text(text)
            sentinel.server.start(str(file), "--sentinel")

    def _member(self, port: int) -> Member:
        return next(member for member in self.members if member.way.port == port)


async def until(holds: Callable[[], bool], limit: float = LIMIT) -> None:
    """Wait until a condition holds that takes a while to check."""
    end = time.monotonic() + limit
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, f"waited {limit:g} s for {holds}"
        await asyncio.sleep(PAUSE)


def _client(server: RedisServer) -> Any:
    return redis.Redis.from_url(server.url, socket_timeout=2.0, decode_responses=True)


def _master_port(sentinel: RedisServer) -> int:
    with _client(sentinel) as client:
        return int(client.sentinel_get_master_addr_by_name(SERVICE)[1])


def _knows_all(sentinel: RedisServer) -> bool:
    with _client(sentinel) as client:
        replicas, others = client.sentinel_slaves(SERVICE), client.sentinel_sentinels(SERVICE)
    flags = [each["flags"] for each in replicas]
    return flags == ["slave"] * 2 and len(others) == 2
