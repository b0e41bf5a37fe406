"""A message to many ids takes several scripts, one after another, over connections of both kinds."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from mesa_ws.backend.redis import AsyncRedisBus
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client import connection, pool
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.batch import Operation
from mesa_ws.backend.redis_client.command import Command
from mesa_ws.backend.redis_client.pipeline import Pipeline
from mesa_ws.backend.redis_client.pool import Pool
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT
from tests.system.proxy import Proxy
from tests.system.redis.conftest import Dispatch
from tests.system.waiting import until

MANY = [f"id-{n}" for n in range(120)]
SHORT = 1.0


def kept(ids: Sequence[str] = MANY, data: object = None) -> Envelope:
    return prepare(Message(0, data), ids, retention=Retention(100, 10_000_000, 60.0))


@pytest.fixture
async def dispatch(dispatch: Dispatch) -> Dispatch:
    """Starts a dispatch, by either bus, which is connected."""
    await dispatch([kept(["first"])])
    return dispatch


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch, dispatch: Dispatch) -> list[Callable[[], None] | int]:
    """The numbers of scripts in each write; what is called instead of an earlier entry, before that write."""
    written: list[Callable[[], None] | int] = []
    count = 0

    def record(commands: Sequence[Command]) -> bytes:
        nonlocal count
        scripts = sum(command[0] == "EVALSHA" for command in commands)
        if scripts:
            count += 1
            if len(written) >= count and callable(act := written[count - 1]):
                act()
            written[count - 1 : count] = [scripts]
        return packed(commands)

    packed = connection.packed
    for module in (connection, pool):
        monkeypatch.setattr(module, "packed", record)
    return written


async def test_each_script_but_the_first_waits_for_the_one_before(
    dispatch: Dispatch, writes: list[Any], redis_url: str, namespace: str
) -> None:
    (receipt,) = await dispatch([kept()])
    assert list(receipt.deliveries) == MANY
    assert all(delivery.stored for delivery in receipt.deliveries.values())
    await dispatch([kept(["id-0"]), kept(), kept(["id-0"]), kept(["id-0"])])
    await dispatch([kept(MANY[:5], "x" * 100_000)])
    assert writes == [1, 1, 1, 2, 1, 3, 1, 1, 1]
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen(Keys(namespace).outbox("id-0")) == 6


async def test_a_later_call_does_not_overtake_the_steps_of_an_earlier_one(
    proxy: Proxy, namespace: str, redis_url: str
) -> None:
    bus = AsyncRedisBus(proxy.url, namespace=namespace, timeout=LIMIT)
    sent = [kept(MANY), kept([MANY[-1]]), kept(MANY), kept([MANY[-1]])]
    await asyncio.gather(*(bus.dispatch([each]) for each in sent))
    await bus.aclose()
    with redis.Redis.from_url(redis_url) as client:
        raws = client.lrange(Keys(namespace).outbox(MANY[-1]), 0, -1)
    assert [raw[25:57].decode() for raw in raws] == [each.message_id for each in sent]


async def test_steps_whose_reply_was_lost_store_nothing_twice(
    dispatch: Dispatch, writes: list[Any], proxy: Proxy, redis_url: str, namespace: str
) -> None:
    writes[:] = [0, lambda: setattr(proxy, "loses_replies", True)]
    sending = dispatch([kept()])
    with redis.Redis.from_url(redis_url) as client:
        await until(lambda: client.exists(Keys(namespace).outbox("id-99")) == 1)
        proxy.loses_replies = False
        proxy.cut()
        (receipt,) = await sending
        assert {
            delivery.position and delivery.position.sequence for delivery in receipt.deliveries.values()
        } == {1}
        assert {client.llen(Keys(namespace).outbox(id)) for id in MANY} == {1}
    assert writes[-3:] == [1, 1, 1]


async def test_a_step_that_is_refused_says_that_others_were_not(
    dispatch: Dispatch, writes: list[Any], redis_url: str, namespace: str
) -> None:
    keys = Keys(namespace)
    with redis.Redis.from_url(redis_url) as client:
        writes[:] = [
            0,
            lambda: client.set(keys.left, client.info("replication")["master_replid"][:16], ex=60),
        ]
        with pytest.raises(BackendUnavailable, match="another master counts") as caught:
            await dispatch([kept()])
        assert caught.value.maybe_sent
        assert [client.llen(keys.outbox(id)) for id in ("id-49", "id-50", "id-119")] == [1, 0, 0]
        client.delete(keys.left)


def waiting(*seconds: float) -> "Operation[list[Any]]":
    commands: list[Command] = [("BLPOP", f"no-list-{time.monotonic()}", str(each)) for each in seconds]
    return Operation(commands, list, steps=range(1, len(commands)), is_repeatable=False)


async def test_each_step_has_a_time_limit_of_its_own(redis_url: str, namespace: str) -> None:
    address, handshake = Address.of(redis_url), NativeHandshake(Keys(namespace))
    pipeline, connections = Pipeline(address, handshake, SHORT), Pool(address, handshake)

    async def run(operation: "Operation[list[Any]]") -> list[Any]:
        replies: list[Any] = await pipeline.carry_out(operation)
        return replies

    async def run_in_thread(operation: "Operation[list[Any]]") -> list[Any]:
        return await asyncio.to_thread(connections.run, operation, time.monotonic() + SHORT)

    for runner in (run, run_in_thread):
        assert await runner(waiting(*[0.3] * 4)) == [None] * 4
        with pytest.raises(BackendUnavailable) as caught:
            await runner(waiting(0.01, LIMIT))
        assert caught.value.maybe_sent
    await pipeline.aclose()
    connections.close()
