"""A node that may have missed something reads again before it is ready."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from mesa_ws.backend.base import Membership
from mesa_ws.backend.outbox import Acknowledgement, Read, Start
from mesa_ws.backend.queries import Heads
from mesa_ws.backend.redis import RedisBackend
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import Envelope, Retention, prepare
from mesa_ws.messages.message import Message
from mesa_ws.messages.receipt import Position
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.proxy import Proxy
from tests.system.waiting import until

KEEP = Retention(100, 1_000_000, 60.0)


def kept(data: object) -> Envelope:
    return prepare(Message(0, data), ["alice"], retention=KEEP)


class Server:
    """A node that holds alice, and reads on whenever it has to catch up."""

    def __init__(self, url: str, namespace: str) -> None:
        self.backend = RedisBackend(url, namespace=namespace, lease=LEASE, timeout=2.0)
        self.sequences: list[int] = []
        self.caught_up = 0
        self.failures = 0
        self.is_asked = False
        self.may_catch_up = asyncio.Event()
        self.may_catch_up.set()
        self._epoch = ""

    async def open(self) -> None:
        await self.backend.open(self.receive, self, Membership(retention=KEEP))
        page = await self.backend.attach("alice", 1, Start())
        assert page is not None
        self._epoch = page.epoch

    def receive(self, envelope: Envelope) -> None:
        self.sequences += [position.sequence for position in envelope.positions]

    async def catch_up(self) -> None:
        self.is_asked = True
        await self.may_catch_up.wait()
        if self.failures:
            self.failures -= 1
            raise BackendUnavailable("not yet")
        last = max(self.sequences, default=0)
        (page,) = await self.backend.read([Read("alice", Position(self._epoch, last))])
        self.sequences += [entry.sequence for entry in page.entries]
        self._epoch = page.epoch
        self.caught_up += 1

    def came_online(self, id: str) -> None:
        """Nothing to do."""

    def went_offline(self, id: str) -> None:
        """Nothing to do."""

    def portal_joined(self, id: str) -> None:
        """Nothing to do."""

    def doubted(self) -> None: ...

    def portal_left(self, id: str) -> None:
        """Nothing to do."""

    def forked(self, since: float) -> None:
        """Nothing to do."""


@pytest.fixture
async def server(proxy: Proxy, namespace: str) -> AsyncIterator[Server]:
    """A server behind a proxy."""
    server = Server(proxy.url, namespace)
    await server.open()
    yield server
    await server.backend.aclose()


@pytest.fixture
async def sender(redis_url: str, namespace: str) -> AsyncIterator[RedisBackend]:
    """Another node, which nothing happens to."""
    backend = RedisBackend(redis_url, namespace=namespace)
    await backend.open(lambda envelope: None)
    yield backend
    await backend.aclose()


async def test_envelopes_say_where_their_messages_are_kept(server: Server, sender: RedisBackend) -> None:
    await sender.dispatch([kept(n) for n in range(3)])
    await until(lambda: server.sequences == [1, 2, 3])


async def test_a_hint_that_was_lost_is_made_good_by_the_next_marker(
    server: Server, sender: RedisBackend, redis_url: str, namespace: str
) -> None:
    await until(lambda: server.backend.is_ready)
    keys = Keys(namespace)
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        user, node = keys.user("alice"), server.backend.node_id
        field = await client.hget(user, node)
        await client.hdel(user, node)
        await sender.dispatch([kept("not announced")])
        await client.hset(user, node, field)
        await client.hincrby(keys.counters, node, 1)
    await until(lambda: server.caught_up > 0 and server.backend.is_ready)
    assert server.sequences == [1]
    assert server.backend.lost == 1


async def test_nothing_is_missed_when_all_connections_are_cut(
    server: Server, sender: RedisBackend, proxy: Proxy
) -> None:
    for n in range(20):
        proxy.cut()
        await sender.dispatch([kept(n)])
    await until(lambda: server.backend.is_ready and max(server.sequences, default=0) == 20)
    assert sorted(set(server.sequences)) == list(range(1, 21))


async def test_nothing_is_missed_when_a_subscription_dies_silently(
    server: Server, sender: RedisBackend, proxy: Proxy
) -> None:
    proxy.mute_subscribers()
    await sender.dispatch([kept(n) for n in range(3)])
    await until(lambda: server.sequences == [1, 2, 3])
    await until(lambda: server.backend.is_ready)


async def test_nothing_is_missed_when_the_lease_was_lost(
    server: Server, sender: RedisBackend, redis_url: str, namespace: str
) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        await client.zrem(Keys(namespace).leases, server.backend.node_id)
    await sender.dispatch([kept("passed over")])
    await until(lambda: server.sequences == [1])
    await until(lambda: server.backend.is_ready)


async def test_nothing_is_missed_when_redis_hung(own_redis: RedisServer, namespace: str) -> None:
    server, sender = Server(own_redis.url, namespace), RedisBackend(own_redis.url, namespace=namespace)
    await server.open()
    await sender.open(lambda envelope: None)
    own_redis.freeze()
    sending = asyncio.create_task(sender.dispatch([kept("while it hung")]))
    await until(lambda: not server.backend.is_ready)
    own_redis.thaw()
    await sending
    await until(lambda: server.backend.is_ready and server.sequences[:1] == [1])
    await server.backend.aclose()
    await sender.aclose()


async def test_a_node_is_not_ready_before_it_has_caught_up(server: Server, proxy: Proxy) -> None:
    server.may_catch_up.clear()
    proxy.cut()
    await until(lambda: server.is_asked)
    assert not server.backend.is_ready
    server.may_catch_up.set()
    await until(lambda: server.backend.is_ready)
    assert server.caught_up > 0


async def test_catching_up_that_failed_is_tried_again(
    server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "mesa_ws")
    server.failures = 2
    proxy.cut()
    await until(lambda: server.caught_up > 0 and server.backend.is_ready)
    assert caplog.text.count("synchronizing with Redis failed, retrying: not yet") == 2


async def test_a_fault_of_the_server_does_not_keep_a_node_from_getting_ready(
    server: Server, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    faults = iter([ValueError("a fault")])
    catch_up = server.catch_up

    async def faulty() -> None:
        for fault in faults:
            raise fault
        await catch_up()

    server.catch_up = faulty  # type: ignore[method-assign]
    proxy.cut()
    await until(lambda: "the resync of this node failed; it is started again" in caplog.text)
    await until(lambda: server.caught_up > 0 and server.backend.is_ready)


async def test_an_acknowledgement_that_was_cut_off_is_made_good(
    server: Server, sender: RedisBackend, proxy: Proxy
) -> None:
    (receipt,) = await sender.dispatch([kept("x")])
    position = receipt.deliveries["alice"].position
    assert position is not None
    proxy.cut()
    server.backend.acknowledge([Acknowledgement("alice", position, position.sequence)])

    async def is_settled() -> bool:
        head = (await sender.query(Heads(["alice"])))["alice"]
        return head is not None and head.acknowledged == 1

    await until(is_settled)


async def test_of_acknowledgements_that_were_cut_off_the_last_is_made_good(
    server: Server, sender: RedisBackend, proxy: Proxy
) -> None:
    receipts = await sender.dispatch([kept("x"), kept("y")])
    proxy.cut()
    for receipt in receipts:
        position = receipt.deliveries["alice"].position
        assert position is not None
        server.backend.acknowledge([Acknowledgement("alice", position, position.sequence)])

    async def is_settled() -> bool:
        head = (await sender.query(Heads(["alice"])))["alice"]
        return head is not None and head.acknowledged == 2

    await until(is_settled)
