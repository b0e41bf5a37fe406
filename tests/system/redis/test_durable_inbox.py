"""Durability of what portals handle: what Redis and its replicas confirm before an event counts as kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio

from mesa_ws import BackendRefused, BackendUnavailable, Portal, RedisBackend, Unsupported
from mesa_ws.backend.base import Membership
from mesa_ws.backend.redis import RedisPortalConsumer
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.settings import Durability
from mesa_ws.transports.run import serve
from tests.contract.cluster import LIMIT
from tests.contract.inbox_cluster import EVERY, InboxCluster, InboxNode, OwnerPortal
from tests.redis_server import RedisServer
from tests.system.portal.conftest import Record
from tests.system.redis.replicated import Replicated
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer
from tests.system.waiting import until

TIMEOUT = 1.0


@pytest.fixture
async def site(tmp_path: Path, release: str) -> AsyncIterator[Replicated]:
    async with Replicated.running(tmp_path, release, 1) as site:
        yield site


class DurableInboxCluster(InboxCluster):
    """Nodes and portals for which events have to be replicated."""

    timeout = TIMEOUT

    def __init__(self, url: str, namespace: str, stack: AsyncExitStack) -> None:
        super().__init__(
            lambda: RedisBackend(url, namespace=namespace, timeout=self.timeout),
            lambda: RedisPortalConsumer(
                url, namespace=namespace, timeout=self.timeout, durability="replicated"
            ),
            stack,
        )

    async def node(self) -> InboxNode:
        backend = self._make_backend()
        await backend.open(lambda envelope: None, membership=Membership(durability="replicated"))
        self._stack.push_async_callback(backend.aclose)
        return InboxNode(backend, [])


@pytest.fixture
async def inbox(site: Replicated, namespace: str) -> AsyncIterator[DurableInboxCluster]:
    async with AsyncExitStack() as stack:
        yield DurableInboxCluster(site.clients.url, namespace, stack)


async def waiting(server: RedisServer, namespace: str) -> int:
    """How many events there are in the queue that is used here."""
    async with redis.asyncio.Redis.from_url(server.url) as client:
        return int(await client.xlen(Keys(namespace).queue(3)))


async def until_taken(node: InboxNode) -> None:
    """Offer the same event until it is taken."""
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                assert await node.append("message", 2, "x") == "taken"
            except BackendUnavailable:
                continue
            return


async def test_an_event_that_was_taken_is_on_the_replica(
    inbox: DurableInboxCluster, site: Replicated, namespace: str
) -> None:
    node = await inbox.node()
    assert await node.append("connection", 1) == "taken"
    assert await waiting(site.replicas[0], namespace) == 1


async def test_an_event_that_no_replica_has_is_not_taken_however_often_it_is_offered(
    inbox: DurableInboxCluster, site: Replicated, namespace: str
) -> None:
    node = await inbox.node()
    await node.append("connection", 1)
    site.replicas[0].freeze()
    for _ in range(2):
        with pytest.raises(BackendUnavailable) as caught:
            await asyncio.wait_for(node.append("message", 2, "x"), LIMIT)
        assert caught.value.maybe_sent
        site.clients.cut()  # WAIT of Redis 7.2 and later knows only what its own connection wrote
    assert "dispatching" not in str(caught.value)
    site.replicas[0].thaw()
    await until_taken(node)
    assert await waiting(site.replicas[0], namespace) == 2


async def test_an_event_that_waits_for_a_replica_holds_up_nothing_else(
    inbox: DurableInboxCluster, site: Replicated
) -> None:
    inbox.timeout = LIMIT
    node = await inbox.node()
    await node.append("connection", 1)
    site.replicas[0].freeze()
    offered = asyncio.create_task(node.append("message", 2, "x"))
    await until(lambda: _is_stored(site, 2))
    await node.backend.attach("alice", 1)
    assert not offered.done()
    site.replicas[0].thaw()
    assert await offered == "taken"


async def test_handlers_are_called_when_a_replica_knows_that_they_are(
    inbox: DurableInboxCluster, site: Replicated
) -> None:
    node, owner = await inbox.node(), await inbox.owner()
    await node.append("connection", 1)
    letters = await owner.until_read(1)
    begin = owner.step("begin", letters[0])
    site.replicas[0].freeze()
    for _ in range(2):
        with pytest.raises(BackendUnavailable) as caught:
            await asyncio.wait_for(owner.portal.settle([begin]), LIMIT)
        assert caught.value.maybe_sent
        site.clients.cut()
    site.replicas[0].thaw()

    async def is_begun() -> bool:
        try:
            return await owner.portal.settle([begin]) == [1]
        except BackendUnavailable:
            return False

    await until(is_begun)


async def test_a_portal_shows_that_it_lives_while_it_waits_for_a_replica(
    inbox: DurableInboxCluster, site: Replicated, namespace: str
) -> None:
    inbox.timeout = LIMIT
    node, owner = await inbox.node(), await inbox.owner()
    await node.append("connection", 1)
    letters = await owner.until_read(1)
    site.replicas[0].freeze()
    settling = asyncio.create_task(owner.settle("begin", *letters))
    await until(lambda: _is_begun(site, namespace))
    assert (await owner.portal.heartbeat(EVERY)).tokens == owner.tokens
    assert not settling.done()
    site.replicas[0].thaw()
    assert await settling == [1]


async def test_without_a_replica_nothing_is_kept_and_nothing_begins(
    own_redis: RedisServer, namespace: str
) -> None:
    async with AsyncExitStack() as stack:
        inbox = DurableInboxCluster(own_redis.url, namespace, stack)
        node, portal = await inbox.node(), inbox.portal()
        with pytest.raises(BackendRefused, match=r"no replica is online.*nothing was stored"):
            await node.append("connection", 1)
        assert await waiting(own_redis, namespace) == 0
        plain = InboxCluster(lambda: RedisBackend(own_redis.url, namespace=namespace), inbox.portal, stack)
        await (await plain.node()).append("connection", 1)
        owner = OwnerPortal(portal, dict((await portal.heartbeat(EVERY)).tokens))
        letters = await owner.until_read(1)
        with pytest.raises(BackendRefused, match="no replica is online"):
            await owner.settle("begin", *letters)


async def test_a_redis_without_fsync_is_known_at_the_start(tmp_path: Path, release: str) -> None:
    server = RedisServer(tmp_path, release=release)
    server.start()
    expected = "needs Redis 7.2 or later, got 7.0" if release == "redis" else "set 'appendonly yes'"
    try:
        with pytest.raises(Unsupported, match=f"durability 'fsync'.*{expected}"):
            await RedisBackend(server.url).open(
                lambda envelope: None, membership=Membership(durability="fsync")
            )
        with pytest.raises(Unsupported, match=f"durability 'fsync'.*{expected}"):
            await Portal(server.url, durability="fsync").start()
        async with redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.exists(Keys(None).portals, Keys(None).owner(0)) == 0
    finally:
        server.stop()


async def test_an_event_that_was_taken_is_on_the_disk_or_refused(
    tmp_path: Path, release: str, namespace: str
) -> None:
    if release == "redis":
        pytest.skip("this Redis has no WAITAOF, which came with 7.2")
    server = RedisServer(tmp_path, release=release)
    server.start()
    backend = RedisBackend(server.url, namespace=namespace)
    try:
        async with redis.asyncio.Redis.from_url(server.url) as client:
            await client.config_set("appendonly", "yes")
            await backend.open(lambda envelope: None, membership=Membership(durability="fsync"))
            node = InboxNode(backend, [])
            assert await node.append("connection", 1) == "taken"
            await client.config_set("appendonly", "no")
            await client.client_kill_filter(_type="normal", skipme=True)
            with pytest.raises(BackendRefused, match="set 'appendonly yes'"):
                await node.append("message", 2)
        assert await waiting(server, namespace) == 1
    finally:
        await backend.aclose()
        server.stop()


@pytest.mark.parametrize("durability", ["memory", "replicated"])
async def test_a_failover_loses_no_event_that_had_to_be_replicated(
    durability: Durability, tmp_path: Path, release: str, namespace: str
) -> None:
    """What the replicas lack is gone with `memory`: a message, and that the connection has ended."""
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(Replicated.running(tmp_path, release, 2))
        url = site.clients.url
        server = accepting(
            backend=RedisBackend(url, namespace=namespace, timeout=TIMEOUT),
            namespace=namespace,
            portals={"enabled": True, "durability": durability},
        )
        endpoint = await stack.enter_async_context(serve(server))
        async with Peer.connect(endpoint.url) as peer:
            await peer.send("N", 0)
            await until(lambda: _is_stored(site, 2))
            site.way.loses_replies = True
            await peer.send("N", 1)
            await until(lambda: _is_stored(site, 3))
        if durability == "memory":
            await until(lambda: _is_stored(site, 4))
        site.master.stop()
        first, second = site.replicas
        await site.promote(first, second)
        site.clients.lead_to(first.port)
        record = Record(Portal(url, namespace=namespace, timeout=TIMEOUT, durability=durability))
        await stack.enter_async_context(record.portal)
        if durability == "replicated":
            await record.until(4)
            assert record.types == ["connection", "message", "message", "disconnection"]
            assert record.data == [0, 1]
        else:
            async with Peer.connect(endpoint.url) as peer:
                await record.until(3)
            assert record.data == [0]


async def _is_stored(site: Replicated, count: int) -> bool:
    """Whether the master has so many events."""
    async with redis.asyncio.Redis.from_url(site.master.url) as client:
        queues = [key async for key in client.scan_iter("*", _type="stream")]
        return sum([await client.xlen(key) for key in queues]) == count


async def _is_begun(site: Replicated, namespace: str) -> bool:
    """Whether the master has counted a delivery."""
    async with redis.asyncio.Redis.from_url(site.master.url) as client:
        return bool(await client.exists(Keys(namespace).deliveries(3)))
