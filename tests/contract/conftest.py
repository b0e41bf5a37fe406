"""Every test of this folder runs over each kind of backend."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mesa_ws.backend.base import Backend
from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.redis import RedisBackend
from tests.contract.cluster import Cluster


@pytest.fixture(params=["memory", "redis"])
async def cluster(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Cluster]:
    hub = MemoryHub()

    def memory(namespace: str) -> Backend:
        return MemoryBackend(hub, namespace=namespace)

    def redis(namespace: str) -> Backend:
        return RedisBackend(request.getfixturevalue("redis_url"), namespace=namespace)

    async with AsyncExitStack() as stack:
        yield Cluster(memory if request.param == "memory" else redis, namespace, stack)
