"""What becomes of events while Redis is away, and of a server's connections when it dies."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from mesa_ws import Client, Message, Portal, PortalEvent, RedisBackend
from mesa_ws.backend.inbox import PARTITIONS
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.transports.run import Server, serve
from tests.interop.npm_packages import PROJECT
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.portal.conftest import LEASE, Record
from tests.system.server.conftest import accepting
from tests.system.server.peer import LIMIT, Peer
from tests.system.waiting import until

TIMEOUT = 0.5
DAY_MS = 86_400_000


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


async def test_events_wait_for_a_redis_that_does_not_answer(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        server: Server = accepting(backend=RedisBackend(redis.url, timeout=TIMEOUT), portals=True)
        endpoint = await stack.enter_async_context(serve(server))
        record = Record(Portal(redis.url, timeout=TIMEOUT))
        await stack.enter_async_context(record.portal)
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.send("N", 0)
        await record.until(2)
        redis.freeze()
        for n in range(1, 20):
            await peer.send("N", n)
        await until(lambda: "does not store clients' events" in caplog.text)
        redis.thaw()
        await record.until(21)
        assert list(dict.fromkeys(record.data)) == list(range(20))


async def test_a_request_whose_answer_could_not_be_sent_is_handled_again(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        server: Server = accepting(backend=RedisBackend(redis.url, timeout=TIMEOUT), portals=True)
        endpoint = await stack.enter_async_context(serve(server))
        client = await stack.enter_async_context(Client(endpoint.url))
        portal = Portal(redis.url, timeout=TIMEOUT)

        @portal.on_message
        async def on_message(event: PortalEvent) -> int:
            if event.deliveries == 1:
                redis.freeze()
            return event.deliveries

        await stack.enter_async_context(portal)
        asking = asyncio.create_task(client.request(Message(0, None), LIMIT))
        await until(lambda: "cannot be sent" in caplog.text)
        redis.thaw()
        assert (await asking).data in {1, 2}  # what was not confirmed may have been sent


@asynccontextmanager
async def server_process(redis: RedisServer, namespace: str) -> AsyncIterator[tuple[Process, str]]:
    """A server that can be killed, and the URL for its clients."""
    port = free_port()
    arguments = (redis.url, namespace, str(LEASE), str(port))
    command = [sys.executable, "-m", "tests.faults.portals.server", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            await process.stdout.readline()
        yield process, f"ws://127.0.0.1:{port}/"
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_portal_ends_the_connections_of_the_only_server_when_it_is_killed(
    redis: RedisServer, namespace: str
) -> None:
    record = Record(Portal(redis.url, namespace=namespace, lease=LEASE))
    async with (
        server_process(redis, namespace) as (process, url),
        record.portal,
        Peer.connect(url) as peer,
    ):
        await peer.authenticate("alice")
        await record.until(2)
        process.kill()
        events = await record.until(3)
        assert (events[2].type, events[2].id, events[2].code) == ("disconnection", "alice", 1006)


async def test_connections_end_although_redis_has_lost_them(redis: RedisServer) -> None:
    async with AsyncExitStack() as stack:
        backend = RedisBackend(redis.url, timeout=TIMEOUT, lease=LEASE)
        server: Server = accepting(backend=backend, portals=True)
        endpoint = await stack.enter_async_context(serve(server))
        record = Record(Portal(redis.url, timeout=TIMEOUT, lease=LEASE))
        await stack.enter_async_context(record.portal)
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.authenticate("alice")
        await record.until(2)
        redis.stop()
        redis.start()
        await until(lambda: backend.joins > 1)
        await peer.socket.close()
        await record.until(5)
        assert record.types[2:] == ["connection", "authentication", "disconnection"]


async def until_beat(client: "Redis", namespace: str) -> None:
    """Wait until a server renews its lease."""

    def leases() -> Any:
        return client.zrange(Keys(namespace).leases, 0, -1, withscores=True)

    before = leases()
    await until(lambda: leases() != before)


@pytest.mark.parametrize("beats", [0, 2], ids=["at once", "after some heartbeats"])
async def test_connections_of_a_killed_server_end_although_nobody_came_for_days(
    redis: RedisServer, namespace: str, beats: int
) -> None:
    record = Record(Portal(redis.url, namespace=namespace, lease=LEASE))
    with Redis(port=redis.port) as client:
        async with server_process(redis, namespace) as (process, url), Peer.connect(url) as peer:
            await peer.authenticate("alice")
            await until(lambda: sum(map(client.xlen, map(Keys(namespace).queue, range(PARTITIONS)))) == 2)
            for _ in range(beats):
                await until_beat(client, namespace)
            process.kill()
            await process.wait()
        for key in client.scan_iter(f"mesa:{{{namespace}*"):
            client.pexpire(key, client.pttl(key) - 6 * DAY_MS)
        async with record.portal:
            events = await record.until(3)
    assert [event.type for event in events] == ["connection", "authentication", "disconnection"]


async def test_a_handler_that_is_stuck_does_not_keep_a_portal_that_was_told_to_stop(
    redis: RedisServer, namespace: str
) -> None:
    backend = RedisBackend(redis.url, namespace=namespace)
    command = [sys.executable, "-m", "tests.system.portal.stuck", redis.url, namespace]
    async with serve(accepting(backend=backend, namespace=namespace, portals=True)) as endpoint:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT)
        try:
            assert process.stdout is not None
            async with Peer.connect(endpoint.url), asyncio.timeout(LIMIT):
                assert await process.stdout.readline() == b"begun\n"
                process.terminate()
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
