"""The embedded backend and Redis answer alike, whatever they are asked."""

import asyncio
import time
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.redis import RedisBackend
from tests.contract.steps import Step, look, scripts
from tests.contract.twins import AGES, Twin
from tests.redis_server import RedisServer

BOUNDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def answer_alike(redis_url: str, window: float, script: list[Step]) -> None:
    """Carry out `script` on both, and compare what they say after every step.

    The clock of the one stands still: what it does as time passes, Redis does in its own way.
    """
    now = time.time()
    hub, namespace = MemoryHub(lambda: now), f"test-{uuid4().hex}"
    async with AsyncExitStack() as stack:
        memory = Twin(lambda name: MemoryBackend(hub, namespace=name), namespace, stack, window)
        redis = Twin(lambda name: RedisBackend(redis_url, namespace=name), namespace, stack, window)
        for twin in (memory, redis):
            await twin.open()
        for step in (each for one in script for each in (one, look(one.node))):
            answers = [await answer(twin, step) for twin in (memory, redis)]
            assert answers[0] == answers[1], f"memory, then redis; to {step!r}"
        assert await memory.heard() == await redis.heard()


async def answer(twin: Twin, step: Step) -> object:
    await twin.settle(step.node)
    return twin.named(await step.ask(twin, twin.nodes[step.node]))


@pytest.mark.timeout(300)  # to find the shortest script that fails takes longer than to find one
@pytest.mark.parametrize("window", [0.0, AGES], ids=["without-window", "with-window"])
def test_both_backends_answer_alike(either_redis: RedisServer, window: float) -> None:
    @BOUNDED
    @given(scripts())
    def alike(script: list[Step]) -> None:
        asyncio.run(answer_alike(either_redis.url, window, script))

    alike()
