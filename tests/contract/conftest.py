"""Every test of this folder runs over each kind of backend, on asyncio's own event loop and on uvloop."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack

import pytest
import uvloop

from mesa_ws.backend.base import Backend
from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.redis import RedisBackend
from tests.contract.cluster import Cluster


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=["memory", "redis"])
async def cluster(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Cluster]:
    hub = MemoryHub()

    def memory(namespace: str) -> Backend:
        return MemoryBackend(hub, namespace=namespace)

    def redis(namespace: str) -> Backend:
        return RedisBackend(request.getfixturevalue("redis_url"), namespace=namespace)

    async with AsyncExitStack() as stack:
        yield Cluster(memory if request.param == "memory" else redis, namespace, stack)
