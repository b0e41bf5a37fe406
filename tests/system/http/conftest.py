"""Fixtures for the HTTP API: a site behind it, and a dispatcher of each kind in front."""

import asyncio
import inspect
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesa_ws.dispatcher import AsyncDispatcher, Dispatcher
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


class Asking:
    """A dispatcher or a bus of either kind, behind one async interface."""

    def __init__(self, target: Any) -> None:
        self._target = target

    async def __call__(self, name: str, *arguments: Any, **named: Any) -> Any:
        target = self._found(name)
        if asyncio.iscoroutinefunction(target):
            return await target(*arguments, **named)
        return await asyncio.to_thread(target, *arguments, **named)

    async def each(self, name: str) -> list[Any]:
        """Return the items of all pages."""
        target = self._found(name)
        if inspect.isasyncgenfunction(target):
            return [each async for each in target()]
        return await asyncio.to_thread(lambda: list(target()))

    def _found(self, name: str) -> Any:
        target = self._target
        for part in name.split("."):
            target = getattr(target, part)
        return target


@pytest.fixture(params=["asyncio", "blocking"])
async def dispatcher(request: pytest.FixtureRequest, api: DispatchApi) -> AsyncIterator[Asking]:
    if request.param == "asyncio":
        async with AsyncDispatcher(api.url, key=KEY, sync=True) as dispatcher:
            yield Asking(dispatcher)
    else:
        blocking = Dispatcher(api.url, key=KEY, sync=True)
        yield Asking(blocking)
        await asyncio.to_thread(blocking.close)
