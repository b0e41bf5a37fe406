"""Fixtures of the tests of Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest
import redis

from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus
from mesa_ws.messages.envelope import Envelope
from mesa_ws.messages.receipt import Receipt
from tests.contract.cluster import LIMIT
from tests.system.proxy import Proxy
from tests.system.redis.script_runner import ScriptRunner

Dispatch = Callable[[Sequence[Envelope]], "asyncio.Task[list[Receipt]]"]


@pytest.fixture
def runner(redis_url: str, namespace: str) -> Iterator[ScriptRunner]:
    """Runs script calls for a node that has joined."""
    with redis.Redis.from_url(redis_url) as client:
        runner = ScriptRunner(client, namespace)
        runner.join()
        yield runner


@pytest.fixture(params=["asyncio", "threads"])
async def dispatch(request: pytest.FixtureRequest, proxy: Proxy, namespace: str) -> AsyncIterator[Dispatch]:
    """Starts a dispatch through the proxy, by either bus."""
    async with AsyncExitStack() as stack:
        if request.param == "asyncio":
            bus = AsyncRedisBus(proxy.url, namespace=namespace, timeout=LIMIT)
            stack.push_async_callback(bus.aclose)
            yield lambda envelopes: asyncio.ensure_future(bus.dispatch(envelopes))
        else:
            blocking = BlockingRedisBus(proxy.url, namespace=namespace, timeout=LIMIT)
            stack.callback(blocking.close)
            yield lambda envelopes: asyncio.create_task(asyncio.to_thread(blocking.dispatch, envelopes))
