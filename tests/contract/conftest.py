"""Run every test of this folder over each kind of backend, on asyncio's own event loop and on uvloop.

A kind whose name ends in `-8` uses Redis 8, and runs on asyncio's event loop alone: the event loop makes
no difference to Redis.
"""

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    spare = [item for item in items if "-8]" in item.name and "[uvloop" in item.name]
    if spare:
        config.hook.pytest_deselected(items=spare)
        items[:] = [item for item in items if item not in spare]


def url_for(request: pytest.FixtureRequest, kind: str) -> str:
    """Return the URL of the Redis of a kind of backend."""
    url: str = request.getfixturevalue("redis_8_url" if kind.endswith("-8") else "redis_url")
    return url


@pytest.fixture(params=["memory", "redis", "redis-8"])
async def cluster(request: pytest.FixtureRequest, namespace: str) -> AsyncIterator[Cluster]:
    hub = MemoryHub()

    def memory(namespace: str) -> Backend:
        return MemoryBackend(hub, namespace=namespace)

    def redis(namespace: str) -> Backend:
        return RedisBackend(url_for(request, request.param), namespace=namespace)

    async with AsyncExitStack() as stack:
        yield Cluster(memory if request.param == "memory" else redis, namespace, stack)
