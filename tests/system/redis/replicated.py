"""A Redis with replicas, for tests of what a failover leaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

import redis.asyncio

from tests.redis_server import RedisServer
from tests.system.proxy import Proxy
from tests.system.waiting import until


class Replicated:
    """A master, and replicas that follow it through a proxy.

    Attributes:
        master: writable from the start.
        replicas: follow it.
        way: proxy from the replicas to the master; `loses_replies` stops the replication.
        clients: proxy from the clients to the master.
    """

    def __init__(self, master: RedisServer, replicas: list[RedisServer], way: Proxy, clients: Proxy) -> None:
        self.master = master
        self.replicas = replicas
        self.way = way
        self.clients = clients

    @classmethod
    @asynccontextmanager
    async def running(cls, folder: Path, release: str, replicas: int) -> AsyncIterator[Self]:
        """Start a master and replicas, and wait until all of them follow."""
        async with AsyncExitStack() as stack:

            async def start(name: str, *options: str) -> RedisServer:
                (folder / name).mkdir()
                server = RedisServer(
                    folder / name, "--repl-diskless-sync-delay", "0", *options, release=release
                )
                stack.callback(server.stop)
                await asyncio.to_thread(server.start)
                return server

            master = await start("master")
            way = await stack.enter_async_context(Proxy.to(master.port))
            clients = await stack.enter_async_context(Proxy.to(master.port))
            place = ("--replicaof", f"127.0.0.1 {way.port}")
            found = [await start(f"replica-{number}", *place) for number in range(replicas)]
            await until_followed(master, replicas)
            yield cls(master, found, way, clients)

    async def promote(self, replica: RedisServer, *followers: RedisServer) -> None:
        """Promote a replica, make the others follow it, and wait until they do."""
        async with redis.asyncio.Redis.from_url(replica.url) as client:
            await client.replicaof("NO", "ONE")
        for follower in followers:
            async with redis.asyncio.Redis.from_url(follower.url) as client:
                await client.replicaof("127.0.0.1", str(replica.port))
        await until_followed(replica, len(followers))


async def until_followed(master: RedisServer, count: int) -> None:
    """Wait until so many replicas are online, and have what there is."""
    async with redis.asyncio.Redis.from_url(master.url) as client:

        async def is_so() -> bool:
            info = await client.info("replication")
            online = [info[f"slave{n}"]["state"] for n in range(info["connected_slaves"])]
            if online != ["online"] * count:
                return False
            await client.set("x", "y")
            return bool(await client.wait(count, 100) == count)

        await until(is_so)
