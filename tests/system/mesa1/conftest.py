"""Servers, dispatchers and Redis commands on the 1.x Redis wire."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import redis.asyncio

from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.contract.cluster import Cluster
from tests.system.server.conftest import join, serving, stack

__all__ = ["join", "serving", "stack"]

LEASE = 2.0
"""Seconds; a test may wait for it, and a busy machine may stall for a second."""


@pytest.fixture
def keys(namespace: str) -> Mesa1Keys:
    return Mesa1Keys(namespace)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    """Redis commands as a server of 1.x would send them."""
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def cluster(redis_url: str, namespace: str) -> AsyncIterator[Cluster]:
    """Nodes with short leases."""

    def make(namespace: str) -> Mesa1Backend:
        return Mesa1Backend(redis_url, namespace=namespace, lease=LEASE, timeout=5.0)

    async with AsyncExitStack() as stack:
        yield Cluster(make, namespace, stack)
