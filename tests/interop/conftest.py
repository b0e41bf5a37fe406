"""Fixtures of the interop tests."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import pytest
import redis.asyncio

from mesa_ws.backend.mesa1.keys import Mesa1Keys

from .genuine import FLAVOURS, Driver, GenuineClient
from .mixed import Cluster
from .npm_packages import Unavailable
from .served import ServerProcess

Opening = Callable[..., GenuineClient]


@pytest.fixture(scope="session")
def driver() -> Iterator[Driver]:
    """The Node process with genuine clients; skips the test where the packages are missing."""
    try:
        driver = Driver()
    except Unavailable as why:
        pytest.skip(f"the npm packages are not here: {why}")
    with driver:
        yield driver


@pytest.fixture
def open_client(driver: Driver) -> Iterator[Opening]:
    """Opens genuine clients until the test ends; an error in one of them fails the test."""
    opened: list[GenuineClient] = []

    def open_client(flavour: str, url: str) -> GenuineClient:
        opened.append(driver.open(flavour, url))
        return opened[-1]

    faults = len(driver.events(None))
    yield open_client
    for client in opened:
        client.close()
    assert driver.events(None)[faults:] == []


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """The interop application on the embedded backend."""
    with ServerProcess() as server:
        yield server


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> str:
    """Each of the genuine clients."""
    name: str = request.param
    return name


@pytest.fixture
async def cluster(redis_url: str, namespace: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(redis_url, namespace, stack)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def keys(namespace: str) -> Mesa1Keys:
    return Mesa1Keys(namespace)
