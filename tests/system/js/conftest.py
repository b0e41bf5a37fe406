"""The process of the JavaScript clients, and servers for them.

Both are in the event loop of the whole session, and so must be the tests: `pytestmark = IN_SESSION`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.browser.bundles import modules
from tests.faults.browser.site import AOF
from tests.faults.browser.tabs import flags
from tests.interop.npm_packages import Unavailable, node
from tests.redis_server import RedisServer

from .runtime import DRIVER, Clients, Runtime
from .site import ResumeState, Site, believing


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def node_runtime() -> AsyncIterator[Runtime]:
    """The one process of Node; skips the test where Node or the package `ws` is missing."""
    try:
        program = node()
    except Unavailable as why:
        pytest.skip(f"{why}; sh scripts/need-node installs it")
    package = (modules() / "ws/wrapper.mjs").as_uri()
    async with Runtime.running(program, *flags(program), str(DRIVER), package) as runtime:
        yield runtime


@pytest_asyncio.fixture(loop_scope="session")
async def stack() -> AsyncIterator[AsyncExitStack]:
    """Contexts that end with the test, after its clients."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def js(node_runtime: Runtime, stack: AsyncExitStack) -> AsyncIterator[Clients]:
    """Makes clients in Node, which are closed at the end of the test."""
    clients = Clients(node_runtime)
    yield clients
    await clients.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def own_redis(tmp_path: Path, stack: AsyncExitStack) -> RedisServer:
    """A Redis of this test alone, which keeps all confirmed data."""
    server = RedisServer(tmp_path, *AOF)
    stack.push_async_callback(asyncio.to_thread, server.stop)
    await asyncio.to_thread(server.start)
    return server


@pytest.fixture
def stand(stack: AsyncExitStack) -> ResumeState:
    """Starts servers."""
    return lambda server: stack.enter_async_context(Site.standing(server))


@pytest_asyncio.fixture(loop_scope="session")
async def site(stack: AsyncExitStack) -> Site:
    """A server that stores its messages."""
    return await stack.enter_async_context(Site.standing(believing()))
