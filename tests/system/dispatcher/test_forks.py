"""Notifications of applications after a restart of Redis that may have lost confirmed messages."""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import (
    AsyncDispatcher,
    Client,
    Mesa1Backend,
    Message,
    Reconnection,
    RedisBackend,
    Server,
    User,
    serve,
)
from mesa_ws.server.connection import Connection
from tests.redis_server import RELEASES, RedisServer

LIMIT = 30.0

AOF = ("--appendonly", "yes", "--appendfsync", "always")


class Site:
    """Servers of one cluster, and the notifications of servers and clients."""

    def __init__(self, redis: RedisServer, namespace: str, stack: AsyncExitStack) -> None:
        self._redis, self._namespace, self._stack = redis, namespace, stack
        self.told: list[float] = []
        self.news: asyncio.Queue[Any] = asyncio.Queue()

    async def server(self) -> str:
        server = Server(RedisBackend(self._redis.url, namespace=self._namespace, lease=0.9))
        server.on_forked(self.told.append)

        @server.authenticator
        async def authenticate(data: Any, connection: Connection) -> User:
            return User(data["id"])

        return (await self._stack.enter_async_context(serve(server))).url

    async def client(self, url: str, id: str) -> Client:
        client = Client(url, reconnect=Reconnection(interval=0.01, max_pause=0.02))
        client.on_message(lambda message: self.news.put_nowait((id, message.data)))
        client.on_forked(lambda: self.news.put_nowait((id, "forked")))
        client.on_reset(lambda: self.news.put_nowait((id, "reset")))
        await self._stack.enter_async_context(client)
        await client.authenticate({"id": id})
        return client

    async def heard(self, count: int) -> list[Any]:
        async with asyncio.timeout(LIMIT):
            return sorted([await self.news.get() for _ in range(count)], key=str)


@pytest.mark.parametrize("release", RELEASES)
async def test_a_restart_notifies_one_server_and_every_client_once(
    tmp_path: Path, namespace: str, release: str
) -> None:
    redis = RedisServer(tmp_path, *AOF, release=release)
    redis.start()
    try:
        async with AsyncExitStack() as stack:
            site = Site(redis, namespace, stack)
            urls = [await site.server(), await site.server()]
            for id in ("has", "empty"):
                await site.client(urls[0], id)
            dispatcher = AsyncDispatcher(redis.url, namespace=namespace, sync=True)
            await stack.enter_async_context(dispatcher)
            await dispatcher.dispatch(Message(0, 1), ["has"])
            await dispatcher.dispatch(Message(0, "all"))
            assert await site.heard(3) == [("empty", "all"), ("has", "all"), ("has", 1)]
            redis.stop()
            before = time.time()
            redis.start()
            assert await site.heard(2) == [("empty", "forked"), ("has", "forked")]
            async with asyncio.timeout(LIMIT):
                while not site.told:
                    await asyncio.sleep(0.01)
            await dispatcher.dispatch(Message(0, 2), ["has", "empty"])
            await dispatcher.dispatch(Message(0, "all"))
            assert await site.heard(4) == [("empty", "all"), ("empty", 2), ("has", "all"), ("has", 2)]
            late = await site.server()  # a server that starts later is not notified
            await site.client(late, "late")
            await dispatcher.dispatch(Message(0, 3), ["late"])
            assert await site.heard(1) == [("late", 3)]
            assert len(site.told) == 1
            assert before - LIMIT < site.told[0] <= before
            assert site.news.empty()
    finally:
        redis.stop()


async def test_an_emptied_store_resets_both_positions_at_once_and_later_messages_arrive(
    own_redis: RedisServer, namespace: str
) -> None:
    async with AsyncExitStack() as stack:
        site = Site(own_redis, namespace, stack)
        url = await site.server()
        for id in ("one", "two"):
            await site.client(url, id)
        client = await stack.enter_async_context(redis.asyncio.Redis.from_url(own_redis.url))
        dispatcher = AsyncDispatcher(own_redis.url, namespace=namespace, sync=True)
        await stack.enter_async_context(dispatcher)
        await dispatcher.dispatch(Message(0, "all"))
        assert await site.heard(2) == [("one", "all"), ("two", "all")]
        await client.flushall()
        assert await site.heard(4) == [("one", "reset"), ("one", "reset"), ("two", "reset"), ("two", "reset")]
        await dispatcher.dispatch(Message(0, "all"))
        await dispatcher.dispatch(Message(0, 1), ["one", "two"])
        assert await site.heard(4) == [("one", "all"), ("one", 1), ("two", "all"), ("two", 1)]
        assert site.news.empty()


@pytest.mark.parametrize("release", RELEASES)
async def test_servers_on_the_wire_of_1x_are_notified_once(
    tmp_path: Path, namespace: str, release: str
) -> None:
    redis, told = RedisServer(tmp_path, *AOF, release=release), list[float]()
    redis.start()
    try:
        async with AsyncExitStack() as stack:
            backends = [Mesa1Backend(redis.url, namespace=namespace, lease=0.9) for _ in range(2)]
            for backend in backends:
                server = Server(backend, wire="mesa1")
                server.on_forked(told.append)
                await stack.enter_async_context(serve(server))
            redis.stop()
            before = time.time()
            redis.start()
            async with asyncio.timeout(LIMIT):
                while not told or not all(backend.is_ready for backend in backends):
                    await asyncio.sleep(0.01)
            late = Server(Mesa1Backend(redis.url, namespace=namespace, lease=0.9), wire="mesa1")
            late.on_forked(told.append)
            await stack.enter_async_context(serve(late))
        assert len(told) == 1
        assert before - LIMIT < told[0] <= before
    finally:
        redis.stop()
