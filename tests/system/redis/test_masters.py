"""A process behind Sentinels has one master for all that it does, and moves as a whole."""

import asyncio
import gc
import sys
import threading
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from mesa_ws import (
    AsyncDispatcher,
    BackendUnavailable,
    Dispatcher,
    Message,
    Portal,
    PortalEvent,
    RedisBackend,
)
from mesa_ws.backend.mesa1 import Mesa1Backend
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.redis.wire import NativeHandshake
from mesa_ws.backend.redis_client.address import Address
from mesa_ws.backend.redis_client.pool import Pool
from mesa_ws.backend.redis_client.resolver import APART
from mesa_ws.transports.run import serve
from tests.contract.cluster import LIMIT, Node
from tests.fake_sentinel import FakeSentinel
from tests.ports import free_port
from tests.redis_server import RedisServer
from tests.system.conftest import LEASE
from tests.system.redis.lending import borrowed
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer
from tests.system.waiting import until, until_ready

STORED = Message(0, "x", "STORED")

SOON = LIMIT / 2
"""Seconds: far less than calls have, and than it takes to find a dead connection otherwise."""

FORK = """
import logging, os, sys
from mesa_ws import Dispatcher, Message

logging.disable()
dispatcher = Dispatcher(sys.argv[1], namespace=sys.argv[2], sync=True)
dispatcher.dispatch(Message(0, "before the fork"), ["alice"])
print(flush=True)
sys.stdin.readline()
child = os.fork()
if child == 0:
    dispatcher.dispatch(Message(0, "after the fork"), ["alice"])
    dispatcher.close()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(scope="module")
def redises(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two that know nothing of each other."""
    first, second = (RedisServer(tmp_path_factory.mktemp("redis")) for _ in range(2))
    first.start()
    second.start()
    yield first, second
    second.stop()
    first.stop()


class Site:
    """Two Redis, and Sentinels that name one of them."""

    def __init__(self, redises: tuple[RedisServer, RedisServer], namespace: str) -> None:
        self.first, self.second = redises
        self.namespace = namespace
        self.sentinels = [FakeSentinel(self.first.port) for _ in range(3)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{each.port}' for each in self.sentinels)}/mymaster"

    @property
    def asked(self) -> int:
        """How often the Sentinel was asked that was asked most."""
        return max(each.asked for each in self.sentinels)

    def switch(self, server: RedisServer, epoch: int) -> None:
        """Name another master."""
        for each in self.sentinels:
            each.switch(server.port, epoch)

    def stored(self, server: RedisServer) -> int:
        """How many messages one of the Redis holds for alice."""
        with redis.Redis.from_url(server.url) as client:
            return int(client.llen(Keys(self.namespace).outbox("alice")))

    def close(self) -> None:
        for each in self.sentinels:
            each.close()


@pytest.fixture
def site(redises: tuple[RedisServer, RedisServer], namespace: str) -> Iterator[Site]:
    site = Site(redises, namespace)
    yield site
    site.close()


class Sender:
    """A dispatcher of either kind."""

    def __init__(self, dispatcher: AsyncDispatcher | Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def store(self) -> None:
        """Store a message for alice."""
        if isinstance(self._dispatcher, AsyncDispatcher):
            await self._dispatcher.dispatch(STORED, ["alice"])
        else:
            await asyncio.to_thread(self._dispatcher.dispatch, STORED, ["alice"])

    async def tries(self) -> bool:
        """Store a message, if that can be done now."""
        try:
            await self.store()
        except BackendUnavailable:
            return False
        return True


@pytest.fixture(params=["asyncio", "threads"])
async def sender(request: pytest.FixtureRequest, site: Site) -> AsyncIterator[Sender]:
    if request.param == "asyncio":
        async with AsyncDispatcher(
            site.url, namespace=site.namespace, sync=True, timeout=4 * LIMIT
        ) as dispatcher:
            yield Sender(dispatcher)
    else:
        with Dispatcher(site.url, namespace=site.namespace, sync=True, timeout=4 * LIMIT) as blocking:
            yield Sender(blocking)


async def test_the_highest_epoch_counts_whichever_sentinel_is_asked_first(site: Site, sender: Sender) -> None:
    site.sentinels[2].switch(site.second.port, 2)
    await sender.store()
    assert (site.stored(site.first), site.stored(site.second)) == (0, 1)


async def test_the_address_of_a_failover_that_is_under_way_counts(site: Site, sender: Sender) -> None:
    """The Sentinel that carries it out keeps the old master, with the new epoch, until the end."""
    leader = site.sentinels[0]
    leader.promoted, leader.epoch = ("127.0.0.1", site.second.port), 2
    await sender.store()
    assert (site.stored(site.first), site.stored(site.second)) == (0, 1)


async def test_sentinels_that_hang_or_know_nothing_hold_up_no_call(site: Site, sender: Sender) -> None:
    site.sentinels[0].answers.clear()
    site.sentinels[1].master = None
    await sender.store()
    assert site.stored(site.first) == 1


def test_a_connection_to_a_master_that_was_left_is_not_lent_again(site: Site) -> None:
    pool = Pool(Address.of(site.url), NativeHandshake(Keys(site.namespace)))
    with borrowed(pool) as first:
        pass
    first.master.is_left = True
    with borrowed(pool) as second:
        assert second is not first
    pool.close()


async def test_what_is_no_sentinel_is_an_error_that_says_so(redis_url: str, namespace: str) -> None:
    where = redis_url.removeprefix("redis://").partition("/")[0]
    async with AsyncDispatcher(f"redis+sentinel://{where}/mymaster", namespace=namespace) as dispatcher:
        with pytest.raises(
            BackendUnavailable, match=r"no Sentinel names a master .*unknown command"
        ) as caught:
            await dispatcher.dispatch(STORED, ["alice"])
    assert not caught.value.maybe_sent


async def test_a_master_that_still_works_is_left_for_one_of_a_higher_epoch(
    site: Site, sender: Sender
) -> None:
    await sender.store()
    site.switch(site.second, 2)

    async def is_there() -> bool:
        await sender.store()
        return site.stored(site.second) > 0

    await until(is_there)
    before = site.stored(site.first)
    for _ in range(10):
        await sender.store()
    assert site.stored(site.first) == before


async def test_an_old_master_stores_nothing_more_once_a_process_has_left_it(site: Site) -> None:
    async with (
        AsyncDispatcher(site.url, namespace=site.namespace, sync=True) as quick,
        AsyncDispatcher(site.first.url, namespace=site.namespace, sync=True) as slow,
    ):
        await slow.dispatch(STORED, ["alice"])
        await quick.dispatch(STORED, ["alice"])
        site.switch(site.second, 2)

        async def has_moved() -> bool:
            await quick.dispatch(STORED, ["alice"])
            return site.stored(site.second) > 0

        await until(has_moved)
        before = site.stored(site.first)
        for recipients in (["alice"], ["bob", "alice"], "*"):
            with pytest.raises(BackendUnavailable, match="another master counts") as refused:
                await slow.dispatch(STORED, recipients)
            assert not refused.value.maybe_sent
    with redis.Redis.from_url(site.first.url) as client:
        assert 0 < client.pttl(Keys(site.namespace).left) <= 15_000
    assert site.stored(site.first) == before


async def test_a_mark_of_leaving_counts_for_no_other_master(site: Site) -> None:
    left = Keys(site.namespace).left
    async with AsyncDispatcher(site.first.url, namespace=site.namespace, sync=True) as dispatcher:
        with redis.Redis.from_url(site.first.url, decode_responses=True) as client:
            client.set(left, client.info("replication")["master_replid"][:16])
            with pytest.raises(BackendUnavailable):
                await dispatcher.dispatch(STORED, ["alice"])
            client.set(left, "0" * 16)
            await dispatcher.dispatch(STORED, ["alice"])
            client.delete(left)
            client.hset(left, "of", "another type")
            await dispatcher.dispatch(STORED, ["alice"])
    assert site.stored(site.first) == 2


async def test_an_older_epoch_is_not_gone_back_to(site: Site, sender: Sender) -> None:
    site.switch(site.second, 2)
    await sender.store()
    site.switch(site.first, 1)
    asked = site.asked

    async def was_asked_again() -> bool:
        site.switch(site.first, 1)  # questions of the first announcement may have come before the count
        await sender.store()
        return site.asked > asked + 1

    await until(was_asked_again)
    assert site.stored(site.first) == 0


async def test_all_of_a_process_moves_when_one_part_of_it_learns_of_another_master(site: Site) -> None:
    """A dispatcher of threads, one of asyncio, and another one with the same address."""
    with Dispatcher(site.url, namespace=site.namespace, sync=True) as blocking:
        async with (
            AsyncDispatcher(site.url, namespace=site.namespace, sync=True) as first,
            AsyncDispatcher(site.url, namespace=site.namespace, sync=True) as second,
        ):
            senders = [Sender(blocking), Sender(first), Sender(second)]
            for sender in senders:
                await sender.store()
            await until(lambda: all(each.subscribers == 1 for each in site.sentinels))
            site.sentinels[1].switch(site.second.port, 2)

            async def has_moved() -> bool:
                await senders[0].store()
                return site.stored(site.second) > 0

            await until(has_moved)
            before = site.stored(site.first)
            for sender in senders:
                await sender.store()
            assert (site.stored(site.first), site.stored(site.second)) == (before, 4)


@pytest.mark.parametrize(
    ("backend", "keys"), [(RedisBackend, Keys), (Mesa1Backend, Mesa1Keys)], ids=["native", "mesa1"]
)
async def test_a_change_is_followed_at_once_by_what_only_listens(site: Site, backend: Any, keys: Any) -> None:
    node = Node(backend(site.url, namespace=site.namespace, lease=20 * LIMIT))
    await node.backend.open(node.receive)
    await until(lambda: all(each.subscribers for each in site.sentinels))
    site.switch(site.second, 2)
    with redis.Redis.from_url(site.second.url) as client:
        channel = keys(site.namespace).channel(node.backend.node_id)
        await until(lambda: client.pubsub_numsub(channel) == [(channel.encode(), 1)])
    await node.backend.aclose()


async def test_a_frozen_master_is_left_before_its_time_is_over(
    site: Site, sender: Sender, own_redis: RedisServer
) -> None:
    """A call waits for it, and is carried out on the new one, long before its time is over."""
    site.switch(own_redis, 2)
    await sender.store()
    own_redis.freeze()
    asked = site.asked
    waiting = asyncio.create_task(sender.store())
    await until(lambda: site.asked > asked or all(each.subscribers for each in site.sentinels))
    site.switch(site.second, 3)
    async with asyncio.timeout(SOON):
        await waiting
    assert site.stored(site.second) == 1


async def test_a_master_that_lacks_replicas_is_left_only_for_another_one(
    site: Site, sender: Sender, own_redis: RedisServer
) -> None:
    site.switch(own_redis, 2)
    await sender.store()
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("min-replicas-to-write", 1)
        asked = site.asked
        before = int(client.info("stats")["total_connections_received"])

        async def is_doubted() -> bool:
            assert not await sender.tries()
            return site.asked > asked

        await until(is_doubted)
        if isinstance(sender._dispatcher, AsyncDispatcher):
            assert client.info("stats")["total_connections_received"] == before
    for each in site.sentinels:  # without a word to subscribers
        each.master, each.epoch = ("127.0.0.1", site.second.port), 3
    await until(sender.tries)
    assert site.stored(site.second) == 1


async def test_sentinels_are_asked_about_once_a_second_however_many_calls_fail(
    site: Site, sender: Sender
) -> None:
    for each in site.sentinels:
        each.master = ("127.0.0.1", free_port())
    began = time.monotonic()
    for _ in range(30):
        assert not await sender.tries()
    assert site.asked <= time.monotonic() - began + 5  # each follower asks when it begins


async def test_what_an_old_master_answers_after_it_was_left_is_carried_out_on_the_new_one(
    site: Site, sender: Sender, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("pipeline.LAST_REPLIES", "pool.APART"):  # the answer comes in time on a busy machine, too
        monkeypatch.setattr(f"mesa_ws.backend.redis_client.{limit}", LIMIT)
    site.switch(own_redis, 2)
    await sender.store()
    async with AsyncDispatcher(site.url, namespace=site.namespace, sync=True) as other:  # it follows changes
        await Sender(other).store()
        await until(lambda: all(each.subscribers for each in site.sentinels))
        own_redis.freeze()
        waiting = asyncio.create_task(sender.store())
        await until(lambda: is_written_to(own_redis))
        site.switch(site.second, 3)
        masters = Address.of(site.url).masters
        assert masters is not None
        await until(lambda: masters.find(time.monotonic() + LIMIT).port == site.second.port)
        own_redis.thaw()
        await waiting
    assert site.stored(site.second) == 1


async def test_a_frozen_master_holds_up_no_new_connection_when_it_is_left(
    site: Site, sender: Sender, own_redis: RedisServer
) -> None:
    site.switch(own_redis, 2)
    own_redis.freeze()
    waiting = asyncio.create_task(sender.store())
    await until(lambda: site.asked > 0)
    site.switch(site.second, 3)
    async with asyncio.timeout(SOON):
        await waiting
    assert site.stored(site.second) == 1


async def test_a_subscription_moves_though_the_old_master_is_frozen(
    site: Site, own_redis: RedisServer
) -> None:
    site.switch(own_redis, 2)
    node = Node(RedisBackend(site.url, namespace=site.namespace, lease=LEASE))
    await node.backend.open(node.receive)
    await until(lambda: all(each.subscribers for each in site.sentinels))
    own_redis.freeze()
    await until(lambda: not node.backend.is_ready)
    site.switch(site.second, 3)
    await until_ready(node)
    await node.backend.aclose()


async def test_the_last_master_counts_while_no_sentinel_is_there(site: Site, sender: Sender) -> None:
    await sender.store()
    for each in site.sentinels:
        each.close()
    for _ in range(3):
        await sender.store()
    assert site.stored(site.first) == 4


async def test_a_portal_settles_where_it_reads(
    site: Site, own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reading breaks off and finds the new master, while the old one still takes what is settled."""
    monkeypatch.setattr("mesa_ws.portal.handling.LOOK_BACK", 0.05)
    site.switch(own_redis, 2)
    handled: list[Any] = []
    may_end = asyncio.Event()
    portal = Portal(site.url, namespace=site.namespace)

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        handled.append(event.message.data)
        await may_end.wait()

    backend = RedisBackend(site.url, namespace=site.namespace)
    server = accepting(backend=backend, namespace=site.namespace, portals=True)
    async with AsyncExitStack() as stack:
        replica = stack.enter_context(replica_of(own_redis, tmp_path))
        old, new = (stack.enter_context(redis.Redis.from_url(each.url)) for each in (own_redis, replica))
        endpoint = await stack.enter_async_context(serve(server))
        await stack.enter_async_context(portal)
        peer = await stack.enter_async_context(Peer.connect(endpoint.url))
        await peer.authenticate("alice")
        for number in range(10):
            await peer.send(data=number)
        queues = [Keys(site.namespace).queue(number) for number in range(16)]
        await until(lambda: handled != [] and sum(map(old.xlen, queues)) == 10)
        await until(lambda: sum(map(new.xlen, queues)) == 10)
        new.replicaof("NO", "ONE")
        for each in site.sentinels:  # without a word to subscribers
            each.master, each.epoch = ("127.0.0.1", replica.port), 3
        for reading in [each for each in old.client_list() if each["cmd"] == "xread"]:
            old.client_kill_filter(_id=reading["id"])
        await until(lambda: any(each["cmd"] == "xread" for each in new.client_list()))
        may_end.set()
        await until(lambda: sum(map(new.xlen, queues)) == 0)
    assert handled == list(range(10))


@contextmanager
def replica_of(master: RedisServer, directory: Path) -> Iterator[RedisServer]:
    """Another Redis, which has what `master` has."""
    (directory / "replica").mkdir()
    replica = RedisServer(directory / "replica")
    replica.start()
    try:
        with (
            redis.Redis.from_url(master.url) as client,
            redis.Redis.from_url(replica.url) as follower,
        ):
            client.config_set("repl-diskless-sync-delay", 0)
            follower.replicaof("127.0.0.1", str(master.port))
            end = time.monotonic() + LIMIT
            while follower.info("replication")["master_link_status"] != "up":
                assert time.monotonic() < end
                time.sleep(0.02)
        yield replica
    finally:
        replica.stop()


def is_written_to(server: RedisServer) -> bool:
    """Whether a connection to a frozen server has sent what the server has not read."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(
        row[1].endswith(f":{server.port:04X}") and int(row[4].split(":")[1], 16) > 0 and row[3] == "01"
        for row in rows
    )


async def in_a_loop_of_its_own(work: Callable[[], Any]) -> None:
    """Run it by another event loop, in another thread."""
    await asyncio.to_thread(lambda: asyncio.run(work()))


async def test_event_loops_share_what_is_known_and_leave_nothing_open(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesa_ws.backend.redis_client.resolver.PING", 4 * LIMIT)  # none wakes by itself
    dispatcher = AsyncDispatcher(site.url, namespace=site.namespace, sync=True)
    masters = Address.of(site.url).masters
    assert masters is not None

    async def store() -> None:
        await dispatcher.dispatch(STORED, ["alice"])

    def is_closed() -> bool:
        gc.collect()  # again and again: a thread may hold an event loop a moment longer than the loop runs
        return all(each.connections == 0 for each in site.sentinels)

    await store()
    await until(lambda: all(each.is_subscribed for each in masters._followers) and not masters._busy)
    await until(lambda: all(each.subscribers == 1 for each in site.sentinels))
    asked, began = site.asked, time.monotonic()
    await asyncio.gather(*(in_a_loop_of_its_own(store) for _ in range(3)))
    assert all(each.subscribers == 1 for each in site.sentinels)
    assert site.asked <= asked + 1 + (time.monotonic() - began) / APART
    await dispatcher.aclose()
    await until(is_closed)
    await until(lambda: not [t for t in threading.enumerate() if t.name == "mesa-sentinel"])


async def test_a_blocking_dispatcher_that_is_closed_leaves_nothing_open(site: Site) -> None:
    with Dispatcher(site.url, namespace=site.namespace, sync=True) as dispatcher:
        await Sender(dispatcher).store()
        assert not any(each.subscribers for each in site.sentinels)
    await until(lambda: all(each.connections == 0 for each in site.sentinels))


async def test_who_has_no_more_time_to_ask_leaves_nothing_open(site: Site) -> None:
    for each in site.sentinels:
        each.answers.clear()
    dispatcher = AsyncDispatcher(site.url, namespace=site.namespace, sync=True)
    asking = asyncio.create_task(dispatcher.dispatch(STORED, ["alice"]))
    await until(lambda: site.asked > 0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await dispatcher.aclose()
    for each in site.sentinels:
        each.answers.set()
    await until(lambda: all(each.connections == 0 for each in site.sentinels))


async def test_a_forked_process_asks_for_itself(site: Site) -> None:
    """The parent used the address before; nothing of that is left to warn of, or to share."""
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        FORK,
        site.url,
        site.namespace,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert program.stdout is not None
    await program.stdout.readline()
    site.switch(site.second, 2)
    async with asyncio.timeout(LIMIT):
        out, err = await program.communicate(b"\n")
    assert (program.returncode, out, err) == (0, b"", b"")
    assert (site.stored(site.first), site.stored(site.second)) == (1, 1)
