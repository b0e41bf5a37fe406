"""Durability: what Redis and its replicas have to confirm before a dispatch returns."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import redis
import redis.asyncio

from mesa_ws.backend.redis import AsyncRedisBus, BlockingRedisBus
from mesa_ws.errors import BackendRefused, BackendUnavailable, Unsupported
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.order import prepare_order
from mesa_ws.messages.receipt import Position, Receipt
from mesa_ws.settings import Durability
from tests.contract.cluster import LIMIT
from tests.redis_server import RedisServer
from tests.system.waiting import until

KEEP = Retention(100, 1_000_000, 60.0)
TIMEOUT = 2.0

Dispatch = Callable[[Envelope], Awaitable[Receipt]]


def kept(durability: Durability, key: str | None = None, to: str = "alice") -> Envelope:
    return prepare(Message(0, "x"), [to], retention=KEEP, durability=durability, idempotency_key=key)


@pytest.fixture
def own_redis(tmp_path: Path, release: str) -> Iterator[RedisServer]:
    """A Redis of this test alone, of either release: 7.0 has no WAITAOF."""
    server = RedisServer(tmp_path, release=release)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def replica(own_redis: RedisServer, tmp_path: Path, release: str) -> Iterator[RedisServer]:
    """A replica of `own_redis`."""
    (tmp_path / "replica").mkdir()
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("repl-diskless-sync-delay", 0)
    server = RedisServer(tmp_path / "replica", "--replicaof", f"127.0.0.1 {own_redis.port}", release=release)
    server.start()
    yield server
    server.stop()


@asynccontextmanager
async def over(kind: str, url: str, namespace: str, timeout: float = TIMEOUT) -> AsyncIterator[Dispatch]:
    """Dispatches one envelope over connections of its own, by either bus."""
    if kind == "asyncio":
        bus = AsyncRedisBus(url, namespace=namespace, timeout=timeout)

        async def one(envelope: Envelope) -> Receipt:
            return (await bus.dispatch([envelope]))[0]

        try:
            yield one
        finally:
            await bus.aclose()
    else:
        blocking = BlockingRedisBus(url, namespace=namespace, timeout=timeout)

        async def one_in_a_thread(envelope: Envelope) -> Receipt:
            return (await asyncio.to_thread(blocking.dispatch, [envelope]))[0]

        try:
            yield one_in_a_thread
        finally:
            blocking.close()


@pytest.fixture(params=["asyncio", "threads"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which bus."""
    return str(request.param)


@pytest.fixture
async def dispatch(kind: str, own_redis: RedisServer, namespace: str) -> AsyncIterator[Dispatch]:
    """Dispatches one envelope, by either bus."""
    async with over(kind, own_redis.url, namespace) as one:
        yield one


async def until_replicas(client: redis.asyncio.Redis, count: int) -> None:
    async def is_so() -> bool:
        await client.set("x", "y")
        return await client.wait(count, 100) == count

    await until(is_so)


async def stored(client: redis.asyncio.Redis) -> int:
    """How many messages there are in all outboxes."""
    return sum([await client.llen(key) async for key in client.scan_iter("*}:o:*")])


async def has_fsync(client: redis.asyncio.Redis) -> bool:
    version = str((await client.info("server"))["redis_version"])
    return tuple(map(int, version.split("."))) >= (7, 2)


async def test_replicas_confirm_in_time(
    dispatch: Dispatch, client: redis.asyncio.Redis, replica: RedisServer
) -> None:
    await until_replicas(client, 1)
    receipt = await dispatch(kept("replicated"))
    async with redis.asyncio.Redis.from_url(replica.url) as other:
        assert await stored(other) == 1
    assert receipt.deliveries["alice"].stored


async def test_a_replica_that_does_not_confirm_is_said_and_asking_again_is_safe(
    dispatch: Dispatch, client: redis.asyncio.Redis, replica: RedisServer
) -> None:
    await until_replicas(client, 1)
    sent = kept("replicated", "one")
    replica.freeze()
    with pytest.raises(
        BackendUnavailable, match="stored, but only 0 of 1 replicas confirmed in time"
    ) as caught:
        await asyncio.wait_for(dispatch(sent), LIMIT)
    assert caught.value.maybe_sent
    replica.thaw()
    positions: list[Position | None] = []

    async def is_confirmed() -> bool:
        with suppress(BackendUnavailable):
            positions.append((await dispatch(sent)).deliveries["alice"].position)
        return bool(positions)

    await until(is_confirmed)
    assert [position and position.sequence for position in positions] == [1]
    assert await stored(client) == 1


async def test_an_order_to_all_nodes_is_held_by_replicas_that_are_online(
    own_redis: RedisServer, namespace: str, client: redis.asyncio.Redis, replica: RedisServer
) -> None:
    await until_replicas(client, 1)
    replica.freeze()
    order = prepare_order(["alice"], 1008, "", 100.0).envelope()
    async with over("asyncio", own_redis.url, namespace, timeout=3.0) as dispatch:
        with pytest.raises(BackendUnavailable, match="stored, but only 0 of 1 replicas confirmed in time"):
            await asyncio.wait_for(dispatch(order), LIMIT)


async def test_a_repeat_over_another_connection_is_confirmed_no_sooner(
    kind: str, own_redis: RedisServer, namespace: str, client: redis.asyncio.Redis, replica: RedisServer
) -> None:
    """WAIT of Redis 7.2 and later knows only what its own connection wrote, and a repeat stores nothing."""
    await until_replicas(client, 1)
    replica.freeze()
    async with over(kind, own_redis.url, namespace) as dispatch:
        for to in ("alice", "*"):
            await dispatch(kept("memory", to, to))
    for to in ("alice", "*"):
        async with over(kind, own_redis.url, namespace, timeout=1.0) as dispatch:
            with pytest.raises(BackendUnavailable) as caught:
                await asyncio.wait_for(dispatch(kept("replicated", to, to)), LIMIT)
            assert caught.value.maybe_sent


async def test_without_a_replica_nothing_is_stored(dispatch: Dispatch, client: redis.asyncio.Redis) -> None:
    with pytest.raises(
        BackendRefused, match=r"no replica is online.*use 'memory' or 'fsync', or add a replica"
    ):
        await dispatch(kept("replicated"))
    assert await stored(client) == 0


async def test_too_few_replicas_for_redis_itself_is_not_now(
    dispatch: Dispatch, client: redis.asyncio.Redis
) -> None:
    await client.config_set("min-replicas-to-write", 1)
    with pytest.raises(BackendUnavailable, match=r"Not enough good replicas to write.*nothing was sent"):
        await dispatch(kept("memory"))
    assert await stored(client) == 0


async def test_a_redis_without_fsync_is_known_before_anything_is_sent(
    dispatch: Dispatch, client: redis.asyncio.Redis
) -> None:
    expected = "set 'appendonly yes'" if await has_fsync(client) else "needs Redis 7.2 or later, got 7.0"
    with pytest.raises(Unsupported, match=expected):
        await dispatch(kept("fsync"))
    assert await stored(client) == 0


async def test_a_redis_with_fsync_confirms(dispatch: Dispatch, client: redis.asyncio.Redis) -> None:
    if not await has_fsync(client):
        pytest.skip("this Redis has no WAITAOF, which came with 7.2")
    await client.config_set("appendonly", "yes")
    receipt = await dispatch(kept("fsync"))
    assert receipt.deliveries["alice"].stored


async def test_what_waits_for_a_replica_holds_up_nothing_else(
    own_redis: RedisServer, client: redis.asyncio.Redis, replica: RedisServer, namespace: str
) -> None:
    await until_replicas(client, 1)
    bus = AsyncRedisBus(own_redis.url, namespace=namespace, timeout=LIMIT)
    replica.freeze()
    waiting = asyncio.ensure_future(bus.dispatch([kept("replicated")]))

    async def is_stored() -> bool:
        return await stored(client) == 1

    await until(is_stored)
    await bus.dispatch([kept("memory")])
    assert not waiting.done()
    replica.thaw()
    await waiting
    await bus.aclose()


async def test_durable_messages_are_numbered_in_the_order_of_their_calls(
    own_redis: RedisServer, client: redis.asyncio.Redis, replica: RedisServer, namespace: str
) -> None:
    await until_replicas(client, 1)
    bus = AsyncRedisBus(own_redis.url, namespace=namespace, timeout=LIMIT)
    receipts = await asyncio.gather(*(bus.dispatch([kept("replicated")]) for _ in range(50)))
    await bus.aclose()
    positions = [receipt.deliveries["alice"].position for (receipt,) in receipts]
    assert [position and position.sequence for position in positions] == list(range(1, 51))
