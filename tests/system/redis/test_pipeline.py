"""One connection for many tasks: order, cancelling, and what is known when it breaks."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.batch import Batch
from mesa_ws.backend.redis_client.connection import AsyncConnection
from mesa_ws.backend.redis_client.pipeline import AHEAD, MAX_BATCH, Pipeline
from mesa_ws.errors import BackendUnavailable
from tests.contract.cluster import LIMIT
from tests.redis_server import RedisServer
from tests.system.proxy import Proxy


@pytest.fixture
async def pipeline(redis_url: str, namespace: str) -> AsyncIterator[Pipeline]:
    pipeline = Pipeline(Address.of(redis_url), NativeHandshake(Keys(namespace)), LIMIT)
    yield pipeline
    await pipeline.aclose()


async def echo(pipeline: Pipeline, text: str) -> str:
    (reply,) = await pipeline.execute([("ECHO", text)])
    return str(reply, "utf-8")


@pytest.mark.parametrize("seed", range(5))
async def test_a_cancelled_call_never_leaves_its_reply_to_another(pipeline: Pipeline, seed: int) -> None:
    dice = random.Random(seed)

    async def call(text: str) -> None:
        try:
            async with asyncio.timeout(dice.choice([0, 0.0005, 0.002, LIMIT])):
                assert await echo(pipeline, text) == text
        except TimeoutError:
            pass
        assert await echo(pipeline, f"{text} again") == f"{text} again"

    async with asyncio.TaskGroup() as tasks:
        for n in range(400):
            task = tasks.create_task(call(f"call {n}"))
            if dice.random() < 0.3:
                asyncio.get_running_loop().call_later(dice.random() / 100, task.cancel)
            if dice.random() < 0.2:
                await asyncio.sleep(0)
    assert await echo(pipeline, "last") == "last"


async def test_a_call_that_is_cancelled_before_it_is_written_is_not_sent(
    pipeline: Pipeline, namespace: str
) -> None:
    task = asyncio.create_task(pipeline.execute([("SET", f"{namespace}:x", "sent", "EX", 60)]))
    await asyncio.sleep(0)
    task.cancel()
    assert await pipeline.execute([("EXISTS", f"{namespace}:x")]) == [0]


async def test_replies_of_one_call_are_in_the_order_of_its_commands(pipeline: Pipeline) -> None:
    commands = [("ECHO", str(n)) for n in range(1000)]
    assert await pipeline.execute(commands) == [b"%d" % n for n in range(1000)]


async def test_an_error_of_one_call_is_no_error_of_another(pipeline: Pipeline) -> None:
    results = await asyncio.gather(
        echo(pipeline, "a"), pipeline.execute([("NONSENSE",)]), echo(pipeline, "b"), return_exceptions=True
    )
    assert (results[0], results[2]) == ("a", "b")
    assert "unknown command" in str(results[1])


async def connected(pipeline: Pipeline) -> None:
    """Connect, and wait until nothing is left to do."""
    for _ in range(2):
        await echo(pipeline, "connected")


async def recorded(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Connect; return a list to which each write adds how many commands it has."""
    await connected(pipeline)
    written: list[int] = []
    send = AsyncConnection.send

    def record(connection: AsyncConnection, data: bytes) -> None:
        written.append(data.count(b"\r\nECHO\r\n"))
        send(connection, data)

    monkeypatch.setattr(AsyncConnection, "send", record)
    return written


@pytest.mark.parametrize(
    ("calls", "writes"),
    [
        (AHEAD - 1, [AHEAD - 1]),
        (AHEAD, [AHEAD]),
        (2 * AHEAD + 5, [AHEAD, AHEAD, 5]),
        (MAX_BATCH + 5, [*[AHEAD] * (MAX_BATCH // AHEAD), 5]),
    ],
)
async def test_many_calls_of_one_turn_are_written_while_it_goes_on(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, calls: int, writes: list[int]
) -> None:
    written = await recorded(pipeline, monkeypatch)
    waiting = [pipeline.carry_out(Batch([("ECHO", str(n))])) for n in range(calls)]
    before_the_end = sum(written)
    replies = await asyncio.gather(*waiting)
    assert [int(reply) for (reply,) in replies] == list(range(calls))
    assert written == writes
    assert before_the_end == min(calls // AHEAD * AHEAD, MAX_BATCH)


async def test_a_turn_looks_at_its_queue_a_few_times_however_long_it_is(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connected(pipeline)
    looks, look = itertools.count(), pipeline._more_of_group

    def counted() -> list[Batch]:
        next(looks)
        return look()

    monkeypatch.setattr(pipeline, "_more_of_group", counted)
    await asyncio.gather(*[pipeline.carry_out(Batch([("ECHO", "x")])) for _ in range(20 * MAX_BATCH)])
    assert next(looks) <= MAX_BATCH // AHEAD + 2


async def test_a_call_that_waits_for_more_ends_the_writing_ahead(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = await recorded(pipeline, monkeypatch)
    plain = [pipeline.carry_out(Batch([("ECHO", str(n))])) for n in range(AHEAD)]
    steps = pipeline.carry_out(Batch([("ECHO", "a"), ("ECHO", "b")], steps=[1]))
    plain += [pipeline.carry_out(Batch([("ECHO", str(n))])) for n in range(AHEAD, 2 * AHEAD)]
    replies = await asyncio.gather(*plain)
    assert [int(reply) for (reply,) in replies] == list(range(2 * AHEAD))
    assert await steps == [b"a", b"b"]
    assert written == [AHEAD, 1, 1, AHEAD]


async def test_closing_in_the_turn_of_many_calls_fails_them(pipeline: Pipeline) -> None:
    await connected(pipeline)
    calls = [pipeline.carry_out(Batch([("ECHO", "x")])) for _ in range(AHEAD + 1)]
    await pipeline.aclose()
    errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), LIMIT)
    assert [getattr(error, "maybe_sent", None) for error in errors] == [*[True] * AHEAD, False]


@pytest.mark.parametrize("is_early", [True, False])
async def test_a_connection_that_ends_in_the_turn_of_many_calls_is_replaced(
    pipeline: Pipeline, *, is_early: bool
) -> None:
    await connected(pipeline)
    first = AHEAD if is_early else AHEAD + 1
    batches = [Batch([("ECHO", str(n))], is_repeatable=True) for n in range(2 * AHEAD + 1)]
    calls = [pipeline.carry_out(batch) for batch in batches[:first]]
    connection = pipeline._connection
    assert connection is not None
    connection.end()
    calls += [pipeline.carry_out(batch) for batch in batches[first:]]
    replies = await asyncio.wait_for(asyncio.gather(*calls), LIMIT)
    assert [int(reply) for (reply,) in replies] == list(range(len(batches)))
    assert pipeline.generation == 2


@pytest.mark.parametrize("writes_before", [0, 1])
async def test_a_write_that_fails_in_the_turn_of_many_calls_fails_none_that_can_be_repeated(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, writes_before: int
) -> None:
    await connected(pipeline)
    send, writes = AsyncConnection.send, itertools.count()

    def fail_once(connection: AsyncConnection, data: bytes) -> None:
        if next(writes) == writes_before:
            raise OSError("no more")
        send(connection, data)

    monkeypatch.setattr(AsyncConnection, "send", fail_once)
    batches = [Batch([("ECHO", str(n))], is_repeatable=True) for n in range(2 * AHEAD + 1)]
    replies = await asyncio.wait_for(asyncio.gather(*map(pipeline.carry_out, batches)), LIMIT)
    assert [int(reply) for (reply,) in replies] == list(range(len(batches)))


async def test_a_call_waits_no_longer_than_its_limit(proxy: Proxy, namespace: str) -> None:
    pipeline = Pipeline(Address.of(proxy.url), NativeHandshake(Keys(namespace)), 0.2)
    await echo(pipeline, "connected")
    proxy.loses_replies = True
    with pytest.raises(BackendUnavailable, match=r"no answer within 0.2 s; the message may have been sent"):
        await asyncio.wait_for(echo(pipeline, "lost"), LIMIT)
    proxy.loses_replies = False
    assert await echo(pipeline, "again") == "again"
    await pipeline.aclose()


async def test_a_call_behind_one_that_hangs_was_not_sent(own_redis: RedisServer, namespace: str) -> None:
    pipeline = Pipeline(Address.of(own_redis.url), NativeHandshake(Keys(namespace)), 0.3)
    await echo(pipeline, "connected")
    own_redis.freeze()
    first = asyncio.create_task(echo(pipeline, "first"))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(echo(pipeline, "second"))
    errors = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), LIMIT)
    assert [getattr(error, "maybe_sent", None) for error in errors] == [True, False]
    own_redis.thaw()
    await pipeline.aclose()


async def test_a_connection_that_was_closed_while_idle_is_replaced(
    pipeline: Pipeline, redis_url: str
) -> None:
    (id,) = await pipeline.execute([("CLIENT", "ID")])
    other = Pipeline(Address.of(redis_url), NativeHandshake(Keys()), LIMIT)
    await other.execute([("CLIENT", "KILL", "ID", id)])
    await other.aclose()
    generation = pipeline.generation
    async with asyncio.timeout(LIMIT):
        assert await echo(pipeline, "again") == "again"
    assert pipeline.generation == generation + 1


async def test_closing_fails_what_is_under_way(proxy: Proxy, namespace: str) -> None:
    pipeline = Pipeline(Address.of(proxy.url), NativeHandshake(Keys(namespace)), LIMIT)
    await echo(pipeline, "connected")
    proxy.loses_replies = True
    calls = [asyncio.create_task(echo(pipeline, "lost"))]
    await asyncio.sleep(0.01)
    calls.append(asyncio.create_task(echo(pipeline, "never sent")))
    await asyncio.sleep(0.01)
    await pipeline.aclose()
    errors = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), LIMIT)
    assert [getattr(error, "maybe_sent", None) for error in errors] == [True, False]


async def test_a_call_is_carried_out_while_all_tasks_are_cancelled(pipeline: Pipeline) -> None:
    goodbyes: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            goodbyes.append(await echo(pipeline, "goodbye"))

    before = asyncio.all_tasks()
    works = [asyncio.create_task(work())]
    await echo(pipeline, "connected")
    works.append(asyncio.create_task(work()))  # one before the pipeline has a connection, and one after it
    await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before:
        task.cancel()
    await asyncio.wait(works)
    assert goodbyes == ["goodbye", "goodbye"]
    assert not asyncio.all_tasks() - before


async def test_a_closed_link_refuses_calls(pipeline: Pipeline) -> None:
    await pipeline.aclose()
    with pytest.raises(BackendUnavailable, match="has been closed"):
        await echo(pipeline, "late")


async def test_closing_an_unused_link_is_fine(pipeline: Pipeline) -> None:
    await pipeline.aclose()


async def test_what_is_posted_is_carried_out_in_its_turn(pipeline: Pipeline, namespace: str) -> None:
    failures: list[str] = []
    pipeline.post([("SET", f"{namespace}:x", "1", "EX", 60)], lambda: failures.append("set"))
    pipeline.post([("NONSENSE",)], lambda: failures.append("nonsense"))
    assert await pipeline.execute([("GET", f"{namespace}:x")]) == [b"1"]
    assert failures == ["nonsense"]


async def test_posting_to_a_closed_link_changes_nothing(pipeline: Pipeline) -> None:
    await pipeline.aclose()
    pipeline.post([("ECHO", "late")], lambda: None)


async def test_a_connection_that_is_given_up_keeps_no_socket_for_what_is_not_sent(
    own_redis: RedisServer, namespace: str
) -> None:
    pipeline: Any = Pipeline(Address.of(own_redis.url), NativeHandshake(Keys(namespace)), 0.5)
    await echo(pipeline, "hello")
    transport = pipeline._connection._writer.transport
    own_redis.freeze()
    with pytest.raises(BackendUnavailable):
        await echo(pipeline, "x" * 32 * 1024 * 1024)  # more than the kernel takes
    await pipeline.aclose()
    own_redis.thaw()
    await asyncio.sleep(0)  # the event loop closes sockets when it comes round
    assert transport.get_extra_info("socket").fileno() == -1
