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


class ScriptRunner:
    """Runs the commands of a node that has no heart."""

    def __init__(self, pipeline: Pipeline, keys: Keys) -> None:
        self._pipeline = pipeline
        self.keys = keys
        self.commands = NodeCommands(keys, "node", lease=60, expiry=60)

    async def join(self) -> None:
        await self._pipeline.execute([self.commands.heartbeat(join=True)[0].command])

    async def attach(self, id: str, sockets: int, version: int) -> None:
        (reply,) = await self._pipeline.execute([self.commands.attach({id: (sockets, version)})])
        assert reply != 0

    async def detach(self, id: str, version: int) -> None:
        await self._pipeline.execute([self.commands.detach([id], version)])

    async def reap(self) -> int:
        (more,) = await self._pipeline.execute([self.commands.reap().command])
        return int(more)

    async def online(self, id: str) -> int:
        ((count,),) = await self._pipeline.execute([call.command for call in online(self.keys, [id])])
        return int(count)

    async def dispatch(self, recipients: list[str]) -> Receipt:
        (receipt,) = await self._pipeline.carry_out(dispatching(self.keys, [prepare(HELLO, recipients)]))
        assert isinstance(receipt, Receipt)
        return receipt


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def runner(redis_url: str, namespace: str) -> AsyncIterator[ScriptRunner]:
    pipeline = Pipeline(Address.of(redis_url), NativeHandshake(Keys(namespace)), LIMIT)
    runner = ScriptRunner(pipeline, Keys(namespace))
    await runner.join()
    yield runner
    await pipeline.aclose()


async def test_an_older_number_never_replaces_a_newer(runner: ScriptRunner) -> None:
    await runner.attach("alice", 1, version=5)
    await runner.attach("alice", 9, version=4)
    assert await runner.online("alice") == 1
    await runner.attach("alice", 3, version=6)
    assert await runner.online("alice") == 3


async def test_a_late_detach_does_not_undo_a_newer_attach(runner: ScriptRunner) -> None:
    await runner.attach("alice", 1, version=5)
    await runner.detach("alice", version=4)
    assert await runner.online("alice") == 1
    await runner.detach("alice", version=6)
    assert await runner.online("alice") == 0


async def test_a_number_that_is_no_number_is_replaced(
    runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    await client.hset(runner.keys.user("alice"), "node", "many")
    assert await runner.online("alice") == -1
    await runner.attach("alice", 2, version=1)
    assert await runner.online("alice") == 2


async def test_a_number_that_is_no_number_is_detached(
    runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    await runner.attach("alice", 2, version=1)
    await client.hset(runner.keys.user("alice"), "node", "many")
    await runner.detach("alice", version=2)
    assert await client.exists(runner.keys.user("alice"), runner.keys.held("node")) == 0


async def test_nodes_without_a_lease_are_passed_over_and_never_removed(
    runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    await runner.attach("alice", 1, version=1)
    await client.zadd(runner.keys.leases, {"dead": 1})
    for id in ("alice", "ghost"):
        await client.hset(runner.keys.user(id), mapping={"dead": "1 1 0 - 0", "unknown": "1 1 0 - 0"})
        await client.expire(runner.keys.user(id), 60)
    receipt = await runner.dispatch(["alice", "ghost"])
    assert [delivery.online for delivery in receipt.deliveries.values()] == [1, 0]
    assert receipt.nodes == 1
    assert (await runner.dispatch(["*"])).nodes == 1
    assert set(await client.hkeys(runner.keys.user("alice"))) == {"dead", "node", "unknown"}


async def test_a_living_node_is_never_reaped(runner: ScriptRunner) -> None:
    await runner.attach("alice", 1, version=1)
    assert await runner.reap() == 0
    assert await runner.online("alice") == 1


async def test_reaping_goes_on_until_nothing_is_left(
    runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    ids = [str(n) for n in range(450)]
    await client.zadd(runner.keys.leases, {"dead": 1})
    await client.sadd(runner.keys.held("dead"), *ids)
    assert [await runner.reap() for _ in range(4)] == [1, 1, 1, 0]
    assert await client.exists(runner.keys.held("dead")) == 0


async def test_reaping_is_the_same_however_many_do_it(
    runner: ScriptRunner, client: redis.asyncio.Redis
) -> None:
    await client.zadd(runner.keys.leases, {"dead": 1})
    await client.sadd(runner.keys.held("dead"), "alice")
    await runner.attach("alice", 1, version=1)
    await client.hset(runner.keys.user("alice"), "dead", "1 1 0 - 0")
    assert [await runner.reap() for _ in range(3)] == [1, 0, 0]
    assert await client.hkeys(runner.keys.user("alice")) == ["node"]
