"""What the scripts promise beyond what a well-behaved node asks of them."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from mesa_ws.backend.redis.dispatch import dispatching
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.node_commands import NodeCommands
from mesa_ws.backend.redis.wire import NativeHandshake, online
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.pipeline import Pipeline
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Receipt
from tests.contract.cluster import LIMIT

HELLO = Message(0, "hello", "HELLO")


class Hand:
    """Runs the commands of a node that has no heart."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self.keys = keys
        self.seat = NodeCommands(keys, "node", lease=60, expiry=60)

    async def join(self) -> None:
        await self._pipeline.execute([self.seat.heartbeat(join=True)[0].command])

    async def attach(self, id: str, sockets: int, version: int) -> None:
        (reply,) = await self._pipeline.execute([self.seat.attach({id: (sockets, version)}).command])
        assert reply != 0

    async def detach(self, id: str, version: int) -> None:
        await self._pipeline.execute([self.seat.detach([id], version).command])

    async def reap(self) -> int:
        (more,) = await self._pipeline.execute([self.seat.reap().command])
        return int(more)

    async def online(self, id: str) -> int:
        ((count,),) = await self._pipeline.execute([call.command for call in online(self.keys, [id])])
        return int(count)

    async def dispatch(self, recipients: list[str]) -> Receipt:
        batch = dispatching(self.keys, [prepare(HELLO, recipients)])
        (receipt,) = batch.read(await self._pipeline.execute(batch.commands))
        return receipt


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def hand(redis_url: str, namespace: str) -> AsyncIterator[Hand]:
    pipeline = Pipeline(Address.of(redis_url), NativeHandshake(Keys(namespace)), LIMIT)
    hand = Hand(pipeline, Keys(namespace))
    await hand.join()
    yield hand
    await pipeline.aclose()


async def test_an_older_number_never_replaces_a_newer(hand: Hand) -> None:
    await hand.attach("alice", 1, version=5)
    await hand.attach("alice", 9, version=4)
    assert await hand.online("alice") == 1
    await hand.attach("alice", 3, version=6)
    assert await hand.online("alice") == 3


async def test_a_late_detach_does_not_undo_a_newer_attach(hand: Hand) -> None:
    await hand.attach("alice", 1, version=5)
    await hand.detach("alice", version=4)
    assert await hand.online("alice") == 1
    await hand.detach("alice", version=6)
    assert await hand.online("alice") == 0


async def test_a_number_that_is_no_number_is_replaced(hand: Hand, client: redis.asyncio.Redis) -> None:
    await client.hset(hand.keys.user("alice"), "node", "many")
    assert await hand.online("alice") == -1
    await hand.attach("alice", 2, version=1)
    assert await hand.online("alice") == 2


async def test_a_number_that_is_no_number_is_detached(hand: Hand, client: redis.asyncio.Redis) -> None:
    await hand.attach("alice", 2, version=1)
    await client.hset(hand.keys.user("alice"), "node", "many")
    await hand.detach("alice", version=2)
    assert await client.exists(hand.keys.user("alice"), hand.keys.held("node")) == 0


async def test_nodes_without_a_lease_are_passed_over_and_never_removed(
    hand: Hand, client: redis.asyncio.Redis
) -> None:
    await hand.attach("alice", 1, version=1)
    await client.zadd(hand.keys.leases, {"dead": 1})
    for id in ("alice", "ghost"):
        await client.hset(hand.keys.user(id), mapping={"dead": "1 1 0 - 0", "unknown": "1 1 0 - 0"})
        await client.expire(hand.keys.user(id), 60)
    receipt = await hand.dispatch(["alice", "ghost"])
    assert [delivery.online for delivery in receipt.deliveries.values()] == [1, 0]
    assert receipt.nodes == 1
    assert (await hand.dispatch(["*"])).nodes == 1
    assert set(await client.hkeys(hand.keys.user("alice"))) == {"dead", "node", "unknown"}


async def test_a_living_node_is_never_reaped(hand: Hand) -> None:
    await hand.attach("alice", 1, version=1)
    assert await hand.reap() == 0
    assert await hand.online("alice") == 1


async def test_reaping_goes_on_until_nothing_is_left(hand: Hand, client: redis.asyncio.Redis) -> None:
    ids = [str(n) for n in range(450)]
    await client.zadd(hand.keys.leases, {"dead": 1})
    await client.sadd(hand.keys.held("dead"), *ids)
    assert [await hand.reap() for _ in range(4)] == [1, 1, 1, 0]
    assert await client.exists(hand.keys.held("dead")) == 0


async def test_reaping_is_the_same_however_many_do_it(hand: Hand, client: redis.asyncio.Redis) -> None:
    await client.zadd(hand.keys.leases, {"dead": 1})
    await client.sadd(hand.keys.held("dead"), "alice")
    await hand.attach("alice", 1, version=1)
    await client.hset(hand.keys.user("alice"), "dead", "1 1 0 - 0")
    assert [await hand.reap() for _ in range(3)] == [1, 0, 0]
    assert await client.hkeys(hand.keys.user("alice")) == ["node"]
