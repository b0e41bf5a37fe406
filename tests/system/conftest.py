"""Fixtures for tests that disturb Redis or its connections."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.keys import Keys
from tests.contract.cluster import Cluster, Node
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy

LEASE = 0.6
"""Seconds; short enough that a lease expires within a test."""


async def crash(node: Node) -> None:
    """Stop all tasks of a node, as a crash does."""
    backend = node.backend
    assert isinstance(backend, RedisBackend | Mesa1Backend)
    opened = backend._node
    assert opened is not None
    await opened._tasks.aclose(1.0)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test alone."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy to the shared Redis."""
    async with Proxy.to(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def nodes(own_redis: RedisServer, namespace: str) -> AsyncIterator[Cluster]:
    """Nodes with short leases at `own_redis`."""

    def make(namespace: str) -> RedisBackend:
        return RedisBackend(own_redis.url, namespace=namespace, lease=LEASE, timeout=2.0)

    async with AsyncExitStack() as stack:
        yield Cluster(make, namespace, stack)


@pytest.fixture
async def client(own_redis: RedisServer) -> AsyncIterator[redis.asyncio.Redis]:
    """A client with which a test acts as an operator of Redis."""
    async with redis.asyncio.Redis.from_url(own_redis.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)
