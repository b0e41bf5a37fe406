"""Callers that give up, over a connection that breaks: no reply reaches another caller.

Every call has a unique query, so that a reply shows which call it belongs to.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mesa_ws import AsyncDispatcher, BackendUnavailable, Message, RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.pipeline import Pipeline
from tests.contract.cluster import LIMIT
from tests.redis_server import RedisServer

from .chaos.proxy import Proxy

CALLERS = 25
CALLS = 100
"""Number of calls of each caller."""

TIMEOUT = 0.25
"""Seconds for one call; a swallowed reply is noticed only then."""

Ask = Callable[[random.Random], Awaitable[None]]
"""Makes a unique query, and asserts that the reply belongs to it."""

SEEDS = range(2)


@pytest.fixture
async def way(either_redis: RedisServer) -> AsyncIterator[Proxy]:
    """A proxy to Redis that breaks connections."""
    async with Proxy(random.Random(0), either_redis.port).listening() as way:
        yield way


async def harm(way: Proxy, dice: random.Random) -> None:
    """Cut, swallow, delay and half-close, for ever."""
    while True:
        await asyncio.sleep(dice.uniform(0, 0.05))
        passages = way.some(dice, 1)
        match dice.randrange(5):
            case 0:
                way.cut()
            case 1:
                for passage in passages:
                    passage.back.is_swallowing = True
                await asyncio.sleep(dice.uniform(0, 2 * TIMEOUT))
                way.heal()
            case 2:
                for passage in passages:
                    dice.choice([passage.there, passage.back]).end()
            case _:
                way.delay = dice.uniform(0, 0.01)


async def call(ask: Ask, dice: random.Random, outcomes: Counter[str]) -> None:
    """Call once; often give up soon, by a time limit or by cancellation."""
    task = asyncio.ensure_future(_within(ask(dice), dice.choice([0, 0.002, 0.01, LIMIT, LIMIT])))
    if dice.random() < 0.3:
        asyncio.get_running_loop().call_later(dice.uniform(0, 0.02), task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        outcomes["cancelled"] += 1
    except BackendUnavailable:
        outcomes["unavailable"] += 1
    except TimeoutError:
        outcomes["timed out"] += 1
    else:
        outcomes["answered"] += 1


async def _within(asking: Awaitable[None], limit: float) -> None:
    async with asyncio.timeout(limit):
        await asking


async def storm(ask: Ask, way: Proxy, seed: int) -> Counter[str]:
    """Let many callers call while connections break; afterwards every call succeeds."""
    outcomes: Counter[str] = Counter()

    async def caller(dice: random.Random) -> None:
        for _ in range(CALLS):
            await call(ask, dice, outcomes)

    async with asyncio.TaskGroup() as tasks:
        harming = tasks.create_task(harm(way, random.Random(seed)))
        callers = [tasks.create_task(caller(random.Random(f"{seed}/{n}"))) for n in range(CALLERS)]
        await asyncio.gather(*callers)
        harming.cancel()
    way.heal()
    await _again(ask, random.Random(seed))
    return outcomes


async def _again(ask: Ask, dice: random.Random) -> None:
    """Call until it succeeds, as the last fault may still have an effect."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                return await ask(dice)
            except BackendUnavailable:
                continue


def check(outcomes: Counter[str], seed: int) -> None:
    """Assert that every outcome occurred; otherwise the storm has shown nothing."""
    print(f"seed {seed}: {dict(outcomes)}")
    assert outcomes.total() == CALLERS * CALLS
    assert outcomes.keys() == {"answered", "cancelled", "timed out", "unavailable"}


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_reply_reaches_another_caller(way: Proxy, namespace: str, seed: int) -> None:
    pipeline = Pipeline(
        Address.of(f"redis://127.0.0.1:{way.port}"), NativeHandshake(Keys(namespace)), TIMEOUT
    )
    numbers = iter(range(10**9))

    async def ask(dice: random.Random) -> None:
        texts = [f"{next(numbers)}" for _ in range(dice.randint(1, 3))]
        assert await pipeline.execute([("ECHO", text) for text in texts]) == [text.encode() for text in texts]

    check(await storm(ask, way, seed), seed)
    await pipeline.aclose()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sync", [False, True])
async def test_no_receipt_reaches_another_caller(
    way: Proxy, either_redis: RedisServer, namespace: str, seed: int, sync: bool
) -> None:
    """Give the id `n` n connections, so that a receipt shows its ids."""
    backend = RedisBackend(either_redis.url, namespace=namespace, lease=60.0)
    await backend.open(lambda envelope: None)
    for n in range(1, 100):
        await backend.attach(str(n), n)
    dispatcher = AsyncDispatcher(
        f"redis://127.0.0.1:{way.port}", namespace=namespace, sync=sync, timeout=TIMEOUT
    )

    async def ask(dice: random.Random) -> None:
        wanted = dice.sample(range(1, 100), dice.randint(1, 4))
        receipt = await dispatcher.dispatch(Message(0, None, "HI"), [str(n) for n in wanted])
        assert [(id, each.online) for id, each in receipt.deliveries.items()] == [(str(n), n) for n in wanted]

    check(await storm(ask, way, seed), seed)
    await dispatcher.aclose()
    await backend.aclose()
