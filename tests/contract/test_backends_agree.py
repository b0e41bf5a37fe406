"""The embedded backend and Redis give the same answers to random requests."""

import asyncio
import time
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings

from mesa_ws.backend.memory import MemoryBackend, MemoryHub
from mesa_ws.backend.redis import RedisBackend
from tests.contract.normalized_cluster import LONG, NormalizedCluster
from tests.contract.steps import Step, look, scripts
from tests.redis_server import RedisServer

BOUNDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


async def answer_alike(redis_url: str, window: float, script: list[Step]) -> None:
    """Run `script` on both backends, and compare their answers after every step.

    The clock of the embedded backend stands still, since Redis expires things in its own way.
    """
    now = time.time()
    hub, namespace = MemoryHub(lambda: now), f"test-{uuid4().hex}"
    async with AsyncExitStack() as stack:
        memory, redis = (
            NormalizedCluster(make, namespace, stack, window)
            for make in (
                lambda name: MemoryBackend(hub, namespace=name),
                lambda name: RedisBackend(redis_url, namespace=name),
            )
        )
        for cluster in (memory, redis):
            await cluster.open()
        for step in (each for one in script for each in (one, look(one.node))):
            answers = [await answer(cluster, step) for cluster in (memory, redis)]
            assert answers[0] == answers[1], f"memory, then redis; to {step!r}"
        assert await memory.heard() == await redis.heard()


async def answer(cluster: NormalizedCluster, step: Step) -> object:
    await cluster.settle(step.node)
    return cluster.named(await step.ask(cluster, cluster.nodes[step.node]))


@pytest.mark.timeout(300)  # hypothesis may need minutes to shorten a failing script
@pytest.mark.parametrize("window", [0.0, LONG], ids=["without-window", "with-window"])
def test_both_backends_answer_alike(either_redis: RedisServer, window: float) -> None:
    @BOUNDED
    @given(scripts())
    def alike(script: list[Step]) -> None:
        asyncio.run(answer_alike(either_redis.url, window, script))

    alike()
