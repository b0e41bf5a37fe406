"""How often events are handled, by whom, and what becomes of what their handlers send."""

import asyncio
from itertools import chain
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Dispatcher, Message, PortalEvent
from mesa_ws.backend.inbox import PARTITIONS, Capacity, InboxEvent
from mesa_ws.backend.redis.keys import Keys
from mesa_ws.backend.urls import portal_consumer
from mesa_ws.errors import BackendUnavailable
from mesa_ws.portal import handling
from mesa_ws.portal.native import QueueSource
from tests.system.portal.conftest import Site
from tests.system.server.peer import LIMIT
from tests.system.waiting import until


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that raised are called again soon."""
    monkeypatch.setattr(handling, "FIRST_PAUSE", 0.001)


async def test_an_event_whose_handler_raised_is_handled_again_before_the_next(
    site: Site, at_once: None
) -> None:
    await site.serve()
    portal, seen, errors = site.portal(), list[tuple[object, int]](), list[tuple[str, str]]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        seen.append((event.message.data, event.deliveries))
        if event.message.data == 1 and event.deliveries < 3:
            raise ValueError("not yet")

    @portal.on_error
    def on_error(error: Exception, event: PortalEvent) -> None:
        errors.append((str(error), event.type))

    await site.start(portal)
    peer = await site.join()
    await peer.send("HI", 1)
    await peer.send("HI", 2)
    await until(lambda: len(seen) == 4)
    assert seen == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert errors == [("not yet", "message")] * 2


async def test_after_five_times_an_event_is_a_dead_letter(redis_site: Site, at_once: None) -> None:
    await redis_site.serve()
    portal, seen = redis_site.portal(), list[int]()

    @portal.on_message("BAD")
    async def on_bad(event: PortalEvent) -> None:
        seen.append(event.deliveries)
        raise ValueError("no")

    @portal.on_message("GOOD")
    async def on_good(event: PortalEvent) -> None:
        await event.reply(Message(0, None, "DONE"))

    await redis_site.start(portal)
    peer = await redis_site.join("alice")
    await peer.send("BAD")
    await peer.send("GOOD")
    await peer.until(t="DONE")
    assert seen == [1, 2, 3, 4, 5]
    assert redis_site.redis_url is not None
    attendance = portal_consumer(redis_site.redis_url, namespace=redis_site.namespace)
    [dead] = await attendance.dead_letters(10)
    assert (dead.reason, dead.deliveries, dead.event.id) == ("ValueError: no", 5, "alice")
    seen.clear()
    assert await attendance.revive([dead.offset]) == 1
    await until(lambda: seen == [1, 2, 3, 4, 5])
    await attendance.aclose()


async def test_an_event_that_ended_its_process_five_times_is_a_dead_letter(redis_site: Site) -> None:
    """A process that ends leaves its count behind, as `begin` does here."""
    await redis_site.serve()
    peer = await redis_site.join()
    await peer.send("BAD")
    assert redis_site.redis_url is not None
    keys = Keys(redis_site.namespace)
    client: Any = redis.asyncio.Redis.from_url(redis_site.redis_url)

    async def queued() -> list[tuple[int, bytes]]:
        return [(n, entry[0]) for n in range(16) for entry in await client.xrange(keys.queue(n))]

    async with client:
        while len(letters := await queued()) < 2:
            pass
        number, place = letters[-1]
        await client.hset(keys.deliveries(number), place, "5")
        record = await redis_site.record()
        await peer.send("GOOD", 1)
        await record.until(2)
        assert record.data == [1]
        [(_, fields)] = await client.xrange(keys.dead)
        assert b"process" in fields[b"r"]


async def test_portals_share_the_queues_evenly(site: Site) -> None:
    records = [await site.record() for _ in range(5)]
    await until(lambda: sorted(len(record.portal.queues) for record in records) == [3, 3, 3, 3, 4])
    assert sorted(chain(*(record.portal.queues for record in records))) == list(range(16))
    for record in records[1:]:
        await record.portal.stop()
    await until(lambda: len(records[0].portal.queues) == 16)


async def test_a_portal_that_stops_lets_its_handlers_finish(site: Site) -> None:
    await site.serve()
    portal, began, go, done = site.portal(), asyncio.Event(), asyncio.Event(), list[object]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        began.set()
        await go.wait()
        done.append(event.message.data)

    await site.start(portal)
    peer = await site.join()
    await peer.send("HI", 1)
    await peer.send("HI", 2)
    await began.wait()
    stopping = asyncio.create_task(portal.stop())
    record = await site.record()
    await until(lambda: portal.queues == ())
    go.set()
    await stopping
    await record.until(1)
    assert done == [1]
    assert record.data == [2]


async def test_another_portal_takes_over_from_one_that_died(redis_site: Site) -> None:
    """A portal whose tasks are cancelled shows no life any more, like one whose process is gone."""
    await redis_site.serve()
    portal, began, ends = redis_site.portal(), asyncio.Event(), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        began.set()
        await ends.wait()

    await redis_site.start(portal)
    peer = await redis_site.join()
    await peer.send("HI", 1)
    await began.wait()
    assert isinstance(portal._source, QueueSource)
    await portal._source._tasks.aclose(LIMIT)
    record = await redis_site.record()
    [event] = [event for event in await record.until(1) if event.type == "message"]
    assert event.deliveries == 2
    ends.set()


async def test_what_a_handler_sends_again_arrives_once(redis_site: Site, at_once: None) -> None:
    await redis_site.serve()
    portal, dispatcher = redis_site.portal(), await redis_site.dispatcher(sync=True)
    blocking = Dispatcher(redis_site.redis_url or "", namespace=redis_site.namespace)

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await dispatcher.dispatch(Message(0, 1, "STORED"), ["bob"])
        await event.reply(Message(0, 2, "REPLY"))
        await dispatcher.dispatch(Message(0, 3, "LIVE", sync=False), ["bob", "alice"])
        if event.deliveries == 1:
            raise ValueError("the first time")

    @portal.on_message
    def in_thread(event: PortalEvent) -> None:
        blocking.dispatch(Message(0, event.deliveries, "THREAD"), ["bob"])
        if event.deliveries == 2:
            raise ValueError("the first time")
        event.reply_blocking(Message(0, 4, "END"))

    await redis_site.start(portal)
    alice, bob = await redis_site.join("alice"), await redis_site.join("bob")
    await alice.send("HI")
    await alice.until(t="END")
    await dispatcher.dispatch(Message(0, None, "LAST"), ["bob"])
    await bob.until(t="LAST")
    types = [frame["t"] for peer in (alice, bob) for frame in peer.frames if frame["op"] == 0]
    assert types == ["REPLY", "LIVE", "END", "STORED", "LIVE", "THREAD", "LAST"]
    blocking.close()


async def test_what_is_done_is_not_remembered_for_long(redis_site: Site) -> None:
    await redis_site.serve()
    portal, dispatcher = redis_site.portal(), await redis_site.dispatcher()
    assert redis_site.redis_url is not None

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await dispatcher.dispatch(Message(0, 1, "HI"), ["nobody"])

    await redis_site.start(portal)
    peer = await redis_site.join()
    await peer.send("HI")
    async with redis.asyncio.Redis.from_url(redis_site.redis_url) as client:

        async def is_shortened() -> bool:
            names = [name async for name in client.scan_iter(f"{Keys(redis_site.namespace).done('*')}")]
            return len(names) == 1 and await client.pttl(names[0]) <= 120_000

        await until(is_shortened)


async def test_outside_of_a_handler_nothing_is_named_after_events(redis_site: Site) -> None:
    await redis_site.serve()
    dispatcher: AsyncDispatcher = await redis_site.dispatcher()
    first = await dispatcher.dispatch(Message(0, 1), ["a"])
    assert (await dispatcher.dispatch(Message(0, 1), ["a"])).message_id != first.message_id


@pytest.mark.parametrize("then", ["message", "disconnection"])
async def test_connections_of_a_server_that_was_taken_for_dead_begin_anew(
    redis_site: Site, then: str
) -> None:
    server = await redis_site.serve()
    record = await redis_site.record()
    peer = await redis_site.join("alice")
    await peer.send("HI", 1)
    await record.until(3)
    assert redis_site.redis_url is not None
    keys, node = Keys(redis_site.namespace), server.backend.node_id
    attendance = portal_consumer(redis_site.redis_url, namespace=redis_site.namespace)
    async with redis.asyncio.Redis.from_url(redis_site.redis_url) as client:
        while len(record.events) < 4:  # it has its lease again soon, unless another portal is faster
            await client.zadd(keys.leases, {node: 1})
            await attendance.heartbeat(())
    await attendance.aclose()
    await (peer.send("HI", 2) if then == "message" else peer.socket.close())
    await record.until(7)
    assert record.types[3:] == ["disconnection", "connection", "authentication", then]
    assert record.events[3].code == 1006


async def test_an_end_whose_reply_was_lost_is_told_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await site.serve()
    record, append = await site.record(), server.backend.append
    repeated = list[str]()

    async def lossy(letter: InboxEvent, room: Capacity) -> Any:
        answer = await append(letter, room)
        if letter.kind == "disconnection" and not repeated:
            repeated.append(letter.key)
            raise BackendUnavailable("lost")
        return answer

    monkeypatch.setattr(server.backend, "append", lossy)
    peer = await site.join("alice")
    await peer.socket.close()
    await until(lambda: server.handlers.forwarder is not None and not server.handlers.forwarder._connections)
    await site.join("bob")
    await until(lambda: any(event.id == "bob" for event in record.events))
    assert repeated
    ends = [event.key for event in record.events if event.type == "disconnection"]
    assert ends == repeated


async def test_everything_in_redis_ends(redis_site: Site, at_once: None) -> None:
    await redis_site.serve()
    portal = redis_site.portal()
    observer = await redis_site.record(report_all_events=True)

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        raise ValueError("no")

    await redis_site.start(portal)
    peer = await redis_site.join("alice")
    await peer.send("HI")
    assert redis_site.redis_url is not None
    keys = Keys(redis_site.namespace)
    async with redis.asyncio.Redis.from_url(redis_site.redis_url, decode_responses=True) as client:

        async def is_dead() -> bool:
            return bool(await client.exists(keys.dead))

        await until(is_dead)
        await observer.until(3)
        names = [name async for name in client.scan_iter(f"mesa:{{{redis_site.namespace}*")]
        assert {keys.dead, keys.portals, keys.observers, keys.observed, keys.tokens} <= set(names)
        assert [name for name in names if await client.pttl(name) < 0] == []
        await portal.stop()
        await peer.send("HI")
        weights = [keys.weights(number) for number in range(PARTITIONS)]

        async def waits() -> bool:
            return bool(await client.exists(*weights))

        await until(waits)
        names = [name async for name in client.scan_iter(f"mesa:{{{redis_site.namespace}*")]
        assert [name for name in names if await client.pttl(name) < 0] == []
