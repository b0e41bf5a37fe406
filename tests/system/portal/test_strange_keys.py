"""Keys of portals in Redis that hold another type than Mesa writes there."""

import logging
from collections.abc import AsyncIterator, Callable

import pytest
import redis.asyncio

from mesa_ws import PortalEvent
from mesa_ws.backend.inbox import PARTITIONS
from mesa_ws.backend.redis import RedisBackend, RedisPortalConsumer
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.portal import handling
from tests.contract.inbox_cluster import EVERY, InboxCluster, OwnerPortal, contents
from tests.system.portal.conftest import Site
from tests.system.waiting import until

Redis = redis.asyncio.Redis

QUEUES: dict[str, Callable[[Keys, int], str]] = {
    "queue": Keys.queue,
    "deliveries": Keys.deliveries,
    "weights": Keys.weights,
    "owner": Keys.owner,
}
SHARED = ["portals", "tokens", "observers", "observed", "dead", "leases", "counters", "graces", "tallies"]


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


@pytest.fixture
def inbox(redis_url: str, namespace: str, stack: object) -> InboxCluster:
    return InboxCluster(
        lambda: RedisBackend(redis_url, namespace=namespace),
        lambda: RedisPortalConsumer(redis_url, namespace=namespace),
        stack,  # type: ignore[arg-type]  # the exit stack of the folder
    )


async def spoil(client: Redis, *names: str) -> None:
    """Put lists, which portals keep nowhere, in the place of keys."""
    async with client.pipeline(transaction=True) as pipeline:  # or a portal might write in between
        for name in names:
            pipeline.delete(name)
            pipeline.rpush(name, "foreign")
        await pipeline.execute()


def named(keys: Keys, kind: str, node: str = "") -> list[str]:
    """The keys of one kind; of nodes, those of this one."""
    if kind in QUEUES:
        return [QUEUES[kind](keys, number) for number in range(PARTITIONS)]
    if kind == "connections":
        return [keys.connections(node)]
    return [str(getattr(keys, kind))]


@pytest.mark.parametrize("kind", [*QUEUES, *SHARED, "connections"])
async def test_portals_go_on_past_keys_of_another_type(
    redis_site: Site, client: Redis, keys: Keys, kind: str
) -> None:
    server = await redis_site.serve()
    record, observer = await redis_site.record(), await redis_site.record(report_all_events=True)
    peer = await redis_site.join()
    await peer.send("N", 0)
    await until(lambda: record.data == observer.data == [0])
    await spoil(client, *named(keys, kind, server.backend.node_id))
    for n in range(1, 4):
        await peer.send("N", n)
    await until(lambda: record.data == [0, 1, 2, 3])
    await peer.socket.close()
    await until(lambda: record.types[-1] == "disconnection")


@pytest.mark.parametrize("kind", QUEUES)
async def test_what_was_there_is_set_aside_and_told_of(
    redis_site: Site, client: Redis, keys: Keys, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_site.serve()
    record = await redis_site.record()
    peer = await redis_site.join()
    await until(lambda: record.types == ["connection"])
    [name] = [QUEUES[kind](keys, number) for number in record.portal.queues[3:4]]
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        await spoil(client, *named(keys, kind))
        await peer.send("N", 1)
        await until(lambda: record.data == [1])

        async def is_aside() -> bool:
            return await client.exists(keys.aside(name)) == 1

        await until(is_aside)
    assert await client.lrange(keys.aside(name), 0, -1) == ["foreign"]
    assert 0 < await client.ttl(keys.aside(name)) <= 7 * 86_400
    assert (
        f"{name!r} had another type than Mesa keeps there; it was set aside as {keys.aside(name)!r}"
        in caplog.text
    )


async def test_events_die_past_a_key_of_another_type(
    redis_site: Site, client: Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)
    await redis_site.serve()
    portal = redis_site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await spoil(client, keys.dead)
        raise ValueError("never")

    await redis_site.start(portal)
    peer = await redis_site.join()
    await peer.send("BAD")

    async def has_died() -> bool:
        return await client.type(keys.dead) == "stream"

    await until(has_died)
    assert await client.xlen(keys.dead) == 1
    assert await client.type(keys.aside(keys.dead)) == "list"


@pytest.mark.parametrize("is_text", [False, True], ids=["of another type", "with another text"])
async def test_events_are_rejected_past_a_count_that_is_none(
    inbox: InboxCluster, client: Redis, keys: Keys, is_text: bool
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    letters = await owner.until_read(2)
    await (client.set(keys.rejected, "foreign") if is_text else spoil(client, keys.rejected))
    assert await owner.settle("reject", *letters) == [0, 0]
    assert (await owner.portal.backlog()).rejected == 2
    assert await owner.read() == []


async def test_a_letter_stands_in_its_queue_once_although_observers_could_not_be_told(
    inbox: InboxCluster, client: Redis, keys: Keys
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await owner.portal.observe("")
    await spoil(client, keys.observed)
    await node.open_with("a")
    assert contents(await owner.until_read(2)) == [("connection", "1", ""), ("message", "2", "a")]
    assert await client.xlen(keys.queue(3)) == await client.xlen(keys.observed) == 2


async def test_connections_of_a_dead_server_end_once_past_keys_of_another_type(
    inbox: InboxCluster, client: Redis, keys: Keys
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await owner.portal.observe("")
    await node.open_with(connection="a")
    await node.open_with(connection="b")
    await spoil(client, keys.queue(3), keys.observed)
    await client.zadd(keys.leases, {node.backend.node_id: 0})
    await owner.portal.heartbeat(EVERY)
    letters = await owner.until_read(2)
    assert [waiting.event.kind for waiting in letters] == ["disconnection"] * 2
    assert await client.xlen(keys.observed) == 2


@pytest.mark.parametrize("kind", ["queue", "owner", "dead", "rejected", "portals"])
async def test_what_waits_can_be_looked_at_past_keys_of_another_type(
    inbox: InboxCluster, client: Redis, keys: Keys, kind: str
) -> None:
    owner = await inbox.owner()
    await spoil(client, *named(keys, kind))
    backlog = await owner.portal.backlog()
    assert [queue.waiting for queue in backlog.queues] == [0] * PARTITIONS


async def test_dead_letters_are_put_back_past_a_queue_of_another_type(
    inbox: InboxCluster, client: Redis, keys: Keys
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.open_with("a")
    letters = await owner.until_read(2)
    await owner.settle("die", *letters, reason="a test")
    places = [dead.offset for dead in await owner.portal.dead_letters(10)]
    await spoil(client, keys.queue(3))
    assert await owner.portal.revive(places) == 2
    assert contents(await OwnerPortal(owner.portal, owner.tokens).until_read(2)) == contents(letters)


async def test_another_refusal_is_told_as_before(inbox: InboxCluster, client: Redis, keys: Keys) -> None:
    """Only a type is a reason to set keys aside: here a number cannot be counted on."""
    owner = await inbox.owner()
    await owner.portal.heartbeat(())
    await client.hset(keys.tokens, mapping={str(number + 1): "many" for number in EVERY})
    with pytest.raises(Exception, match="not an integer"):
        await owner.portal.heartbeat(EVERY)


STRANGE: list[dict[str | bytes, str | bytes]] = [
    {"c": "x", "s": "1", "k": "message", "i": "", "n": "n", "t": "never", "d": "{}"},
    {"hello": "world"},
    {"c": "x", "s": "1", "k": "message", "i": "", "n": "n", "t": "9" * 400, "d": "{}"},
    {"c": "x", "s": "1", "k": "message", "i": b"\xff", "n": "n", "t": "1", "d": "{}"},
    {"c": "x", "s": "1", "k": "invention", "i": "", "n": "n", "t": "1", "d": "{}"},
    {"s": "1", "c": "x", "k": "message", "i": "", "n": "n", "t": "1", "d": "{}"},
    {str(number): "x" for number in range(5000)},
    {"c": "x", "later": "1"},
]
"""Entries that cannot be read."""


async def test_entries_that_cannot_be_read_become_dead_letters_and_the_queue_goes_on(
    redis_site: Site, client: Redis, keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    await redis_site.serve()
    consumer = RedisPortalConsumer(redis_site.redis_url, namespace=redis_site.namespace)
    for entry in STRANGE:
        for number in EVERY:
            await client.xadd(keys.queue(number), entry)  # type: ignore[arg-type]
    count = len(STRANGE) * PARTITIONS
    assert (await consumer.backlog()).waiting == count
    record, observer = await redis_site.record(), await redis_site.record(report_all_events=True)
    peer = await redis_site.join()
    for n in range(5):
        await peer.send("N", n)
    await until(lambda: record.data == observer.data == [0, 1, 2, 3, 4])

    async def is_put_aside(number: int) -> bool:
        backlog = await consumer.backlog()
        return (backlog.waiting, backlog.dead) == (0, number)

    await until(lambda: is_put_aside(count))
    assert caplog.text.count("cannot be read and becomes a dead letter") == 1
    letters = await consumer.dead_letters(count + 1)
    assert {letter.event.kind for letter in letters} == {"unreadable"}
    assert sum(b'"hello":"world"' in letter.event.data for letter in letters) == PARTITIONS
    assert letters[0].reason == "its entry in the queue cannot be read"
    await client.xadd(keys.dead, {"hello": "world"})  # cannot be retried, since its queue is unknown
    assert await consumer.revive([letter.offset for letter in await consumer.dead_letters(10_000)]) == count
    await until(lambda: is_put_aside(count + 1))
    letters = await consumer.dead_letters(10_000)
    assert await consumer.drop([letter.offset for letter in letters]) == count + 1
    await peer.send("N", 5)
    await until(lambda: record.data == [0, 1, 2, 3, 4, 5])
    await consumer.aclose()
