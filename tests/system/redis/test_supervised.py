"""Tasks of a node go on whatever happens to them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.connection import AsyncConnection
from mesa_ws.concurrency.tasks import Tasks
from tests.contract.cluster import LIMIT, Node
from tests.system.conftest import LEASE
from tests.system.proxy import Proxy
from tests.system.waiting import deliver, until, until_ready


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    tasks = Tasks()
    yield tasks
    await tasks.aclose(LIMIT)


async def test_a_task_that_fails_or_ends_begins_anew(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    beginnings = 0

    async def job() -> None:
        nonlocal beginnings
        beginnings += 1
        if beginnings == 1:
            raise ValueError("a fault")
        if beginnings == 3:
            await asyncio.Event().wait()

    tasks.start(job, "job")
    await until(lambda: beginnings == 3)
    assert "the job of this node failed; it is started again" in caplog.text
    assert "the job of this node ended; it is started again" in caplog.text


async def test_a_cancellation_from_within_is_no_end(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    beginnings = 0

    async def job() -> None:
        nonlocal beginnings
        beginnings += 1
        if beginnings == 1:
            raise asyncio.CancelledError
        await asyncio.Event().wait()

    tasks.start(job, "job")
    await until(lambda: beginnings == 2)
    assert "was cancelled by code it called" in caplog.text


async def test_closing_ends_a_task_that_swallows_its_cancellation(tasks: Tasks) -> None:
    is_waiting = asyncio.Event()

    async def job() -> None:
        is_waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    tasks.start(job, "job")
    await is_waiting.wait()
    await asyncio.wait_for(tasks.aclose(LIMIT), LIMIT)
    assert [task for task in asyncio.all_tasks() if task.get_name() == "mesa-redis-job"] == []


async def test_a_node_hears_again_after_a_fault_in_a_library(
    proxy: Proxy, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(RedisBackend(proxy.url, namespace=namespace, lease=LEASE))
    await node.backend.open(node.receive, node)
    await node.backend.attach("alice", 1)
    await deliver(node, node)
    faults = iter([ZeroDivisionError("a fault of a library")])
    connect = Address.aconnect

    async def faulty(self: Address, timeout: float) -> AsyncConnection:
        for fault in faults:
            raise fault
        return await connect(self, timeout)

    monkeypatch.setattr(Address, "aconnect", faulty)
    proxy.cut()
    await until(lambda: "a fault of a library" in caplog.text)
    await until_ready(node)
    await deliver(node, node)
    await node.backend.aclose()
