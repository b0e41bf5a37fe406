"""Connections for threads: bounded, never shared, never used across a fork."""

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from mesa_ws.backend.redis import BlockingRedisBus, RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client import connection
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.connection import PooledConnection, packed
from mesa_ws.backend.redis_client.pool import MAX_CONNECTIONS, Pool
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Node, heard
from tests.system.redis.lending import borrowed

FORK = """
import os, sys, threading
from mesa_ws.backend.redis import BlockingRedisBus
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message

url, namespace = sys.argv[1:]
bus = BlockingRedisBus(url, namespace=namespace)
bus.dispatch([prepare(Message(0, "before the fork"))])

def work(who):
    for n in range(200):
        sent = prepare(Message(0, n), [f"{who}-{n}"])
        (receipt,) = bus.dispatch([sent])
        assert receipt.message_id == sent.message_id
        assert list(receipt.deliveries) == [f"{who}-{n}"]

child = os.fork()
if child == 0:
    try:
        work("child")
        bus.close()
    except BaseException as error:
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)
work("parent")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def pool(redis_url: str, namespace: str) -> Iterator[Pool]:
    pool = Pool(Address.of(redis_url), NativeHandshake(Keys(namespace)))
    yield pool
    pool.close()


@pytest.fixture
def bus(redis_url: str, namespace: str) -> Iterator[BlockingRedisBus]:
    bus = BlockingRedisBus(redis_url, namespace=namespace, timeout=LIMIT)
    yield bus
    bus.close()


def soon() -> float:
    return time.monotonic() + LIMIT


def connections(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return len(client.client_list(_type="normal"))


def test_a_connection_is_used_again(pool: Pool) -> None:
    with borrowed(pool) as first:
        pass
    with borrowed(pool) as second:
        assert second is first


def test_two_at_a_time_get_two_connections(pool: Pool) -> None:
    with borrowed(pool) as first, borrowed(pool) as second:
        assert first is not second


def test_a_connection_that_failed_is_not_used_again(pool: Pool) -> None:
    with pytest.raises(ValueError, match="broken"), borrowed(pool) as first:
        raise ValueError("broken")
    with borrowed(pool) as second:
        assert second is not first


@pytest.mark.parametrize("lacks_poll", [False, True])  # as under eventlet
def test_a_connection_that_redis_closed_is_not_used_again(
    pool: Pool, redis_url: str, monkeypatch: pytest.MonkeyPatch, lacks_poll: bool
) -> None:
    if lacks_poll:
        monkeypatch.setattr(connection, "select", SimpleNamespace())
    with borrowed(pool) as first:
        first.write(packed([("CLIENT", "ID")]), soon())
        [id] = first.read(1, soon())
    with redis.Redis.from_url(redis_url) as client:
        client.client_kill_filter(_id=id)
    with borrowed(pool) as second:
        assert second is not first


def test_more_calls_than_connections_wait_and_then_fail(pool: Pool) -> None:
    for _ in range(2):  # a call that waited in vain keeps no connection from those after it
        with ExitStack() as stack:
            for _ in range(MAX_CONNECTIONS):
                stack.enter_context(borrowed(pool))
            with pytest.raises(BackendUnavailable, match=r"all 50 connections are in use; nothing was sent"):
                stack.enter_context(borrowed(pool, 0.01))


def test_waiting_calls_get_connections_in_turn(pool: Pool, redis_url: str) -> None:
    before, order = connections(redis_url), queue.SimpleQueue[int]()

    def wait(number: int) -> None:
        with borrowed(pool):
            order.put(number)

    with ThreadPoolExecutor(4) as threads, ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS - 1):
            stack.enter_context(borrowed(pool))
        last = pool.borrow(soon())
        for number in range(4):
            threads.submit(wait, number)
            while len(pool._process._waiting) <= number:
                time.sleep(0.001)
        pool.give_up(last)  # the first one makes another, which each hands on
        assert [order.get(timeout=LIMIT) for _ in range(4)] == [0, 1, 2, 3]
        assert connections(redis_url) == before + MAX_CONNECTIONS


@pytest.mark.parametrize("comes_just_now", [False, True])
def test_an_interrupted_call_keeps_no_connection_from_others(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, comes_just_now: bool
) -> None:
    class Interrupted(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            if timeout is None:
                return super().get()
            if comes_just_now:
                pool.give_back(last)
            raise KeyboardInterrupt

    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS - 1):
            stack.enter_context(borrowed(pool))
        last = pool.borrow(soon())
        with monkeypatch.context() as patch:
            patch.setattr(queue, "SimpleQueue", Interrupted)
            with pytest.raises(KeyboardInterrupt):
                pool.borrow(soon())
        if not comes_just_now:
            pool.give_back(last)
        assert pool.borrow(soon()) is last


def test_many_threads_share_the_connections(bus: BlockingRedisBus, redis_url: str) -> None:
    before, most = connections(redis_url), 4 * MAX_CONNECTIONS
    start = threading.Barrier(most)

    def work() -> int:
        start.wait()
        return sum(len(bus.dispatch([prepare(Message(0), ["alice"])])) for _ in range(5))

    with ThreadPoolExecutor(most) as threads:
        assert sum(threads.map(lambda _: work(), range(most))) == 5 * most
    assert connections(redis_url) <= before + MAX_CONNECTIONS


def test_a_call_is_one_write(bus: BlockingRedisBus, monkeypatch: pytest.MonkeyPatch) -> None:
    bus.dispatch([prepare(Message(0), ["alice"])])
    written: list[bytes] = []
    write = PooledConnection.write

    def record(to: PooledConnection, data: bytes, deadline: float) -> None:
        written.append(data)
        write(to, data, deadline)

    monkeypatch.setattr(PooledConnection, "write", record)
    bus.dispatch([prepare(Message(0), ["alice"])])
    bus.dispatch([prepare(Message(0, n), ["alice"]) for n in range(100)])
    bus.dispatch(
        [prepare(Message(0, n), ["alice"], retention=Retention(100, 10**6, 60.0)) for n in range(100)]
    )
    assert [data.count(b"EVALSHA") for data in written] == [1, 1, 100]


def test_closing_closes_what_is_idle_and_what_comes_back(pool: Pool, redis_url: str) -> None:
    before = connections(redis_url)
    with borrowed(pool):
        with borrowed(pool):
            pass
        pool.close()
        assert connections(redis_url) <= before + 1
    end = soon()
    while connections(redis_url) > before:
        assert time.monotonic() < end


async def test_threads_share_a_bus_and_each_keeps_its_order(
    bus: BlockingRedisBus, redis_url: str, namespace: str
) -> None:
    node = Node(RedisBackend(redis_url, namespace=namespace))
    await node.backend.open(node.receive)
    await node.backend.attach("alice", 1)
    start = threading.Barrier(8)

    def work() -> list[str]:
        sent: list[Envelope] = [prepare(Message(0, n), ["alice"]) for n in range(100)]
        start.wait()
        return [bus.dispatch([envelope])[0].message_id for envelope in sent]

    with ThreadPoolExecutor(8) as threads:
        futures = [threads.submit(work) for _ in range(8)]
        sent = [future.result(LIMIT) for future in futures]
    (envelopes,) = await heard(node)
    await node.backend.aclose()
    arrived = [envelope.message_id for envelope in envelopes]
    assert len(arrived) == 800
    for ids in sent:
        wanted = set(ids)
        assert [id for id in arrived if id in wanted] == ids


def test_a_forked_process_has_connections_of_its_own(redis_url: str, namespace: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, redis_url, namespace],
        capture_output=True,
        text=True,
        timeout=LIMIT * 3,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
