"""Fixtures for the HTTP API: a site behind it, and a dispatcher of each kind in front."""

from collections.abc import AsyncIterator

import pytest

from mesa_ws.http_server.server import DispatchApi
from tests.http_site import KEY, Dispatching, Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    await site.open()
    yield site
    await site.memory.aclose()


@pytest.fixture
async def api(site: Site) -> AsyncIterator[DispatchApi]:
    async with DispatchApi(site.server, key=KEY, port=0) as api:
        yield api


@pytest.fixture(params=["aio", "blocking"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bus(kind: str, api: DispatchApi) -> AsyncIterator[Dispatching]:
    async with Dispatching(kind, api.url) as bus:
        yield bus
