"""Idle connections that a firewall has forgotten: nothing arrives on them, and nothing says so."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus
from mesa_ws.backend.redis_client.pool import MAX_CONNECTIONS
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.settings import Sync
from tests.contract.cluster import LIMIT
from tests.system.proxy import Proxy
from tests.system.redis.lending import borrowed

MOMENT = 1e-6
"""Seconds; every pause is longer."""

KEEP = Retention.of(Sync(enabled=True))

Make = Callable[..., Awaitable[Any]]


@pytest.fixture
async def blocking(proxy: Proxy, namespace: str) -> AsyncIterator[Make]:
    """Makes a bus with as many idle connections as it may have."""
    made: list[BlockingRedisBus] = []

    async def make(idle: float, timeout: float = LIMIT) -> BlockingRedisBus:
        place = {"host": "127.0.0.1", "port": proxy.port, "health_check_interval": idle}
        made.append(bus := BlockingRedisBus(place, namespace=namespace, timeout=timeout))
        await asyncio.to_thread(fill, bus)
        return bus

    yield make
    for bus in made:
        await asyncio.to_thread(bus.close)


@pytest.fixture
async def aio(proxy: Proxy, namespace: str) -> AsyncIterator[Make]:
    """Makes a bus with an idle connection for each of the two kinds of dispatches."""
    made: list[AsyncRedisBus] = []

    async def make(idle: float, timeout: float = LIMIT) -> AsyncRedisBus:
        place = {"host": "127.0.0.1", "port": proxy.port, "health_check_interval": idle}
        made.append(bus := AsyncRedisBus(place, namespace=namespace, timeout=timeout))
        await bus.dispatch([message()])
        return bus

    yield make
    for bus in made:
        await bus.aclose()


def fill(bus: BlockingRedisBus) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(borrowed(bus._pool))


def message(retention: Retention | None = None) -> Envelope:
    return prepare(Message(0, "hello"), ["alice"], retention=retention)


async def call_all(bus: BlockingRedisBus, retention: Retention | None) -> list[BaseException]:
    """Dispatch from as many threads as there are connections, at the same time; return what failed."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(MAX_CONNECTIONS) as threads:
        calls = [
            loop.run_in_executor(threads, bus.dispatch, [message(retention)]) for _ in range(MAX_CONNECTIONS)
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    return [result for result in results if isinstance(result, BaseException)]


@pytest.mark.parametrize("retention", [None, KEEP], ids=["unstored", "stored"])
async def test_connections_that_were_idle_for_too_long_are_replaced(
    blocking: Make, proxy: Proxy, retention: Retention | None
) -> None:
    bus = await blocking(MOMENT)
    proxy.forget()
    assert await call_all(bus, retention) == []


async def test_stored_messages_are_repeated_on_new_connections(blocking: Make, proxy: Proxy) -> None:
    bus = await blocking(LIMIT, timeout=2.0)
    proxy.forget()
    assert await call_all(bus, KEEP) == []


async def test_one_dead_connection_is_enough_to_distrust_the_others(blocking: Make, proxy: Proxy) -> None:
    bus = await blocking(LIMIT, timeout=1.0)
    proxy.forget()
    await asyncio.to_thread(bus.dispatch, [message(KEEP)])


async def test_unstored_messages_fail_in_time_and_say_that_they_may_have_been_sent(
    blocking: Make, proxy: Proxy
) -> None:
    bus = await blocking(LIMIT, timeout=0.2)
    proxy.forget()
    errors = await call_all(bus, None)
    assert len(errors) == MAX_CONNECTIONS
    assert {(type(error), getattr(error, "maybe_sent", None)) for error in errors} == {
        (BackendUnavailable, True)
    }
    assert "no answer in time" in str(errors[0])


@pytest.mark.parametrize("retention", [None, KEEP], ids=["unstored", "stored"])
async def test_an_asyncio_connection_that_was_idle_for_too_long_is_replaced(
    aio: Make, proxy: Proxy, retention: Retention | None
) -> None:
    bus = await aio(MOMENT)
    proxy.forget()
    await bus.dispatch([message(retention)])


async def test_asyncio_repeats_stored_messages_on_a_new_connection(aio: Make, proxy: Proxy) -> None:
    bus = await aio(LIMIT, timeout=1.0)
    proxy.forget()
    await asyncio.gather(*(bus.dispatch([message(KEEP)]) for _ in range(10)))


async def test_asyncio_fails_unstored_messages_that_may_have_been_sent(aio: Make, proxy: Proxy) -> None:
    bus = await aio(LIMIT, timeout=0.2)
    proxy.forget()
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.2 s") as raised:
        await bus.dispatch([message()])
    assert raised.value.maybe_sent


async def test_connections_that_are_used_often_are_kept(aio: Make, blocking: Make, proxy: Proxy) -> None:
    one, many = await aio(LIMIT), await blocking(LIMIT)
    before = proxy.accepted
    await one.dispatch([message()])
    await asyncio.to_thread(many.dispatch, [message()])
    assert proxy.accepted == before
