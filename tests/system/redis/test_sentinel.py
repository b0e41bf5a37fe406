"""Behind Sentinel, connections go to the master."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus, RedisBackend
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Node
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.waiting import deliver, until, until_ready

HELLO = Message(0, "hello", "HELLO")

CONFIGURATION = """
sentinel monitor mymaster 127.0.0.1 {master} 1
sentinel down-after-milliseconds mymaster 500
sentinel failover-timeout mymaster 3000
"""


class Site:
    """A master, a replica, and a Sentinel that watches them."""

    def __init__(self, directory: Path) -> None:
        self.master, self.replica, self.sentinel = (
            self._server(directory / name) for name in ("master", "replica", "sentinel")
        )
        self._configuration = directory / "sentinel.conf"

    def start(self) -> None:
        self.master.start()
        self.replica.start()
        with redis.Redis.from_url(self.replica.url) as client:
            client.replicaof("127.0.0.1", self.master.port)
        self._configuration.write_text(CONFIGURATION.format(master=self.master.port))
        self.sentinel.start(str(self._configuration), "--sentinel")

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.stop()

    @property
    def url(self) -> str:
        """An address whose first Sentinel does not listen."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/mymaster"

    @property
    def knows_its_replica(self) -> bool:
        with redis.Redis.from_url(self.sentinel.url) as client:
            return len(client.sentinel_slaves("mymaster")) == 1

    @staticmethod
    def _server(directory: Path) -> RedisServer:
        directory.mkdir()
        return RedisServer(directory)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    site.start()
    yield site
    site.stop()


@pytest.fixture(params=[AsyncRedisBus, BlockingRedisBus])
async def bus(request: pytest.FixtureRequest, site: Site, namespace: str) -> AsyncIterator[Any]:
    bus = request.param(site.url, namespace=namespace)
    yield bus
    await bus.aclose() if isinstance(bus, AsyncRedisBus) else bus.close()


async def dispatch(bus: Any, recipient: str) -> int:
    """Dispatch once; returns the number of nodes."""
    sent = [prepare(HELLO, [recipient])]
    if isinstance(bus, AsyncRedisBus):
        return (await bus.dispatch(sent))[0].nodes
    (receipt,) = await asyncio.to_thread(bus.dispatch, sent)
    return int(receipt.nodes)


async def test_a_failover_is_followed(bus: Any, site: Site, namespace: str) -> None:
    node = Node(RedisBackend(site.url, namespace=namespace, lease=LEASE))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    assert await dispatch(bus, "alice") == 1
    await until(lambda: site.knows_its_replica)
    site.master.stop()

    async def is_followed() -> bool:
        try:
            return await dispatch(bus, "alice") == 1
        except BackendUnavailable:
            return False

    await until(is_followed)
    await until_ready(node)
    await deliver(node, node)
    await node.backend.aclose()


@pytest.mark.parametrize("kind", [AsyncRedisBus, BlockingRedisBus])
async def test_no_sentinel_is_an_error_within_the_limit(kind: Any, namespace: str) -> None:
    hosts = ",".join(f"127.0.0.1:{free_port()}" for _ in range(3))
    bus = kind(f"redis+sentinel://{hosts}/mymaster", namespace=namespace)
    with pytest.raises(BackendUnavailable, match="redis 'mymaster' of the sentinels") as caught:
        await asyncio.wait_for(dispatch(bus, "alice"), LIMIT)
    assert not caught.value.maybe_sent


@pytest.mark.parametrize("kind", [AsyncRedisBus, BlockingRedisBus])
async def test_a_sentinel_that_hangs_leaves_time_for_the_next(kind: Any, site: Site, namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{site.sentinel.port}"
        bus = kind(f"redis+sentinel://{hosts}/mymaster", namespace=namespace, timeout=1.5)
        assert await dispatch(bus, "away") == 0
    await bus.aclose() if isinstance(bus, AsyncRedisBus) else bus.close()
