"""Portals on the 1.x Redis wire: ours, and remains of portals of 1.x."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import (
    InvalidSettings,
    MemoryHub,
    Mesa1Backend,
    Message,
    Portal,
    PortalEvent,
    Server,
    Unsupported,
    serve,
)
from mesa_ws.backend.inbox import InboxEvent
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from mesa_ws.backend.mesa1.portal_liveness import remove_portal
from mesa_ws.portal import mesa1
from mesa_ws.portal.mesa1 import Mesa1Source
from tests.redis_server import RedisServer
from tests.system.portal.conftest import Site
from tests.system.proxy import Proxy
from tests.system.waiting import until

Redis = redis.asyncio.Redis

HI = {"op": 0, "d": {"n": 1}, "t": "HI"}


class Mesa1Site(Site):
    """Servers and portals of this wire."""

    def backend(self) -> Mesa1Backend:
        assert self.redis_url is not None
        return Mesa1Backend(self.redis_url, namespace=self.namespace, lease=self.lease)

    async def serve(self, **options: Any) -> Server:
        return await super().serve(wire="mesa1", **options)

    def portal(self, **options: Any) -> Portal:
        return super().portal(wire="mesa1", **options)


@pytest.fixture
def site(redis_url: str, namespace: str, stack: AsyncExitStack) -> Mesa1Site:
    return Mesa1Site(redis_url, namespace, stack)


class Foreign:
    """A portal of 1.x: it announces itself once, and listens."""

    def __init__(self, client: Redis, keys: Mesa1Keys, id: str) -> None:
        self.id = id
        self.heard: list[dict[str, Any]] = []
        self._client = client
        self._keys = keys
        self._pubsub = client.pubsub()

    async def join(self) -> None:
        await self._pubsub.subscribe(self._keys.portal)
        await self._pubsub.get_message(timeout=5)
        await self.announce(ready=True)
        await self._client.sadd(self._keys.pool, self.id)

    async def announce(self, *, ready: bool) -> None:
        await self._client.publish(self._keys.pool, json.dumps({"id": self.id, "ready": ready}))

    async def leave(self) -> None:
        await self.announce(ready=False)
        await self._client.srem(self._keys.pool, self.id)

    async def die(self) -> None:
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def until(self, count: int) -> list[dict[str, Any]]:
        """Wait for so many events that are for this portal."""
        async with asyncio.timeout(10):
            while len(self.heard) < count:
                found = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
                if found and (event := json.loads(found["data"]))["portalId"] == self.id:
                    self.heard.append(event)
        return self.heard


def backend_of(server: Server) -> Mesa1Backend:
    assert isinstance(server.backend, Mesa1Backend)
    return server.backend


async def until_pool(server: Server, *ids: str) -> None:
    await until(lambda: sorted(backend_of(server).portals) == sorted(ids))


async def until_bound(server: Server, *ids: str) -> None:
    """Wait until the server knows the connections of portals of 1.x."""
    node = backend_of(server)._node
    assert node is not None
    await until(lambda: set(ids) <= node.portals._liveness._bound.keys())


async def until_seen(server: Server, *ids: str) -> None:
    """Wait until the server has seen the connections of our portals."""
    node = backend_of(server)._node
    assert node is not None
    await until(lambda: set(ids) <= node.portals._liveness._named)


@pytest.fixture
def foreign(client: Redis, keys: Mesa1Keys) -> Foreign:
    return Foreign(client, keys, "f")


async def test_a_life_of_a_connection_is_told_in_its_order(site: Mesa1Site) -> None:
    record = await site.record()
    server = await site.serve()
    await until_pool(server, record.portal.portal_id)
    peer = await site.join()
    await peer.send("EARLY", 1)
    await peer.authenticate("alice")
    await peer.send("LATER", 2)
    await until(lambda: len(record.events) == 4)
    await peer.socket.close(1000)
    events = await record.until(5)
    assert [(event.type, event.id) for event in events] == [
        ("connection", None),
        ("message", None),
        ("authentication", "alice"),
        ("message", "alice"),
        ("disconnection", "alice"),
    ]
    assert events[-1].code == 1000
    assert {event.connection_id for event in events} == {events[0].connection_id}
    assert events[0].node == server.backend.node_id
    assert len({event.key for event in events}) == 5


async def test_a_portal_of_1x_is_told_what_1x_tells(site: Mesa1Site, foreign: Foreign) -> None:
    await foreign.join()
    await site.serve()
    peer = await site.join("alice")
    await peer.send("HI", {"n": 1})
    await peer.socket.close()
    events = await foreign.until(4)
    assert [{k: v for k, v in event.items() if k != "x"} for event in events] == [
        {"type": "connection", "portalId": "f"},
        {"type": "authentication", "clientId": "alice", "portalId": "f"},
        {"type": "message", "message": HI, "clientId": "alice", "portalId": "f"},
        {"type": "disconnection", "clientId": "alice", "portalId": "f"},
    ]


async def test_events_go_round(site: Mesa1Site) -> None:
    one, two = await site.record(), await site.record()
    server = await site.serve()
    await until_pool(server, one.portal.portal_id, two.portal.portal_id)
    peer = await site.join()
    for n in range(9):
        await peer.send("N", n)
    await until(lambda: len(one.events) + len(two.events) == 10)
    assert len(one.events) == len(two.events) == 5
    assert sorted([*one.data, *two.data]) == list(range(9))


async def test_without_turns_every_event_goes_to_one_portal(site: Mesa1Site) -> None:
    one, two = await site.record(), await site.record()
    server = await site.serve(portals={"enabled": True, "distribute_load": False})
    await until_pool(server, one.portal.portal_id, two.portal.portal_id)
    peer = await site.join()
    for n in range(60):
        await peer.send("N", n)
    await until(lambda: len(one.events) + len(two.events) == 61)
    assert sorted([*one.data, *two.data]) == list(range(60))
    assert one.data
    assert two.data


async def test_one_that_sees_everything_sees_what_others_get(site: Mesa1Site) -> None:
    record, seeing = await site.record(), await site.record(report_all_events=True)
    server = await site.serve()
    await until_pool(server, record.portal.portal_id, seeing.portal.portal_id)
    peer = await site.join()
    for n in range(6):
        await peer.send("N", n)
    await seeing.until(7)
    assert seeing.data == list(range(6))
    assert 0 < len(record.data) < 6


async def test_authentication_data_and_heartbeats_are_never_told(
    site: Mesa1Site, redis_url: str, namespace: str
) -> None:
    record = await site.record()
    server = Server(site.backend(), namespace=namespace, wire="mesa1", portals=True)  # without authenticator
    async with AsyncExitStack() as stack:
        from_here = Mesa1Site(redis_url, namespace, stack)
        endpoint = await stack.enter_async_context(serve(server))
        from_here.url = endpoint.url
        await until_pool(server, record.portal.portal_id)
        peer = await from_here.join()
        await peer.send(data={"token": "secret"}, op=2)
        await peer.send(data={"beat": 1}, op=11)
        other = await from_here.join()
        await other.send("LAST")
        await record.until(3)
    assert record.data == [None]
    assert "secret" not in repr([event.message for event in record.events])


async def test_garbage_is_survived_on_both_sides(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys, caplog: pytest.LogCaptureFixture
) -> None:
    record = await site.record()
    server = await site.serve()
    for garbage in ("garbage", "null", "{}", "5", '{"type":"x","portalId":5}'):
        await client.publish(keys.portal, garbage)
        await client.publish(keys.pool, garbage)
        await client.publish(keys.channel(server.backend.node_id), garbage)
    await until_pool(server, record.portal.portal_id)
    peer = await site.join()
    await peer.send("HI", 1)
    await record.until(2)
    assert record.data == [1]
    assert "garbage" not in caplog.text


async def test_leaves_of_unknown_portals_and_double_announcements_do_no_harm(
    site: Mesa1Site, foreign: Foreign, client: Redis, keys: Mesa1Keys
) -> None:
    await foreign.join()
    server = await site.serve()
    await foreign.announce(ready=True)
    await foreign.announce(ready=True)
    await Foreign(client, keys, "unknown").announce(ready=False)
    peer = await site.join()
    await peer.send("HI", 1)
    await foreign.until(2)
    assert backend_of(server).portals == ("f",)
    await foreign.leave()
    await until_pool(server)


async def test_a_portal_whose_announcement_was_missed_is_found(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    server = await site.serve()
    await client.sadd(keys.pool, "quiet")
    await until(lambda: "quiet" in backend_of(server).portals)
    await client.srem(keys.pool, "quiet")
    await until_pool(server)


async def test_without_any_portal_events_are_dropped_and_counted_and_clients_go_on(
    site: Mesa1Site, caplog: pytest.LogCaptureFixture
) -> None:
    server = await site.serve()
    seen = list[object]()
    server.on_message(lambda message, connection: seen.append(message.data))
    with caplog.at_level(logging.WARNING, "mesa_ws.backend"):
        peer = await site.join("alice")
        for n in range(20):
            await peer.send("N", n)
        await until(lambda: len(seen) == 20)
    assert backend_of(server).dropped_events == 22
    assert caplog.text.count("there is no portal") == 1


async def test_a_portal_of_1x_that_was_killed_is_taken_out(
    site: Mesa1Site, foreign: Foreign, client: Redis, keys: Mesa1Keys
) -> None:
    server = await site.serve()
    dead = Foreign(client, keys, "dead")
    await foreign.join()
    await until_bound(server, "f")
    await dead.join()
    await until_bound(server, "dead")
    peer = await site.join()  # its event goes to the portal that is about to die
    await peer.send("N", 0)
    await foreign.until(1)
    await dead.die()
    for n in range(1, 10):  # of which it should be told the first
        await peer.send("N", n)
    await until_pool(server, "f")
    assert await client.smembers(keys.pool) == {"f"}
    mine = [each["message"]["d"] for each in await foreign.until(10)]
    assert mine == list(range(10)), "events that the dead portal did not hear are repeated, once"


async def test_who_is_announced_and_never_listens_gets_no_events_and_is_taken_out(
    site: Mesa1Site, foreign: Foreign, client: Redis, keys: Mesa1Keys
) -> None:
    server = await site.serve()
    await foreign.join()
    await until_bound(server, "f")
    ghost = Foreign(client, keys, "ghost")
    await client.sadd(keys.pool, ghost.id)
    await ghost.announce(ready=True)
    await until_pool(server, "f", "ghost")
    peer = await site.join()
    for n in range(6):
        await peer.send("N", n)
    told = [each["message"]["d"] for each in await foreign.until(7) if each["type"] == "message"]
    assert told == list(range(6))
    await until_pool(server, "f")
    assert await client.smembers(keys.pool) == {"f"}


async def is_heard_by(client: Redis, keys: Mesa1Keys, count: int) -> bool:
    [(_, listeners)] = await client.pubsub_numsub(keys.portal)
    return bool(listeners == count)


@pytest.mark.parametrize("how", ["leaves", "ends"])
async def test_what_a_portal_heard_before_it_went_is_not_told_again(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer hear it than there are portals, for one is dead; and another one replaces it."""
    server = await site.serve()
    first, second = [Foreign(client, keys, id) for id in ("f", "g")]
    for each in (first, second):
        await each.join()
        await until_bound(server, each.id)
    await client.sadd(keys.pool, "dead")
    await until_pool(server, "dead", "f", "g")
    node = backend_of(server)._node
    assert node is not None
    portals = node.portals
    publish, told, newcomer = portals._publish, list[tuple[Any, str]](), client.pubsub()

    async def go() -> None:
        if how == "leaves":
            await first.leave()
            await until(lambda: "f" not in portals.ids)
            return
        await first.die()
        await until(lambda: is_heard_by(client, keys, 1))
        await newcomer.subscribe(keys.portal)
        await newcomer.get_message(timeout=5)
        portals._looked_at = 0.0  # the last look is too old to tell

    async def publish_and_go(letter: InboxEvent, portal: str) -> int | None:
        heard = await publish(letter, portal)
        if letter.kind == "message":
            told.append((json.loads(letter.data)["d"], portal))
            if len(told) == 1:
                await go()
        return heard

    peer = await site.join()
    monkeypatch.setattr(portals, "_publish", publish_and_go)
    monkeypatch.setattr(portals._pool, "choose", lambda avoid: next(id for id in "fg" if id not in avoid))
    for n in range(2):
        await peer.send("N", n)
    await until(lambda: bool(told) and told[-1][0] == 1)
    assert [portal for n, portal in told if n == 0] == ["f"]
    await newcomer.aclose()  # type: ignore[no-untyped-call]


async def test_a_portal_of_ours_that_was_killed_is_taken_out(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    record, dead = await site.record(), site.portal()
    server = await site.serve()
    await dead.start()
    await until_seen(server, record.portal.portal_id, dead.portal_id)
    peer = await site.join()
    assert isinstance(dead._source, Mesa1Source)
    await dead._source._consumer.aclose()  # as if its process were gone
    for n in range(10):
        await peer.send("N", n)
    await until_pool(server, record.portal.portal_id)
    assert await client.smembers(keys.pool) == {record.portal.portal_id}
    assert record.data == list(range(10))
    await dead.stop()


async def test_what_a_dead_portal_was_told_is_told_again_though_somebody_listens_in(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    record, dead = await site.record(), site.portal()
    server = await site.serve()
    await dead.start()
    await until_pool(server, record.portal.portal_id, dead.portal_id)
    async with client.pubsub() as curious:
        await curious.subscribe(keys.portal)
        peer = await site.join()
        while not await curious.get_message(ignore_subscribe_messages=True, timeout=5):
            pass  # all three hear that it has connected
        assert isinstance(dead._source, Mesa1Source)
        await dead._source._consumer.aclose()
        for n in range(10):
            await peer.send("N", n)
        await until(lambda: record.data == list(range(10)))
    await dead.stop()


async def test_a_living_portal_of_1x_stays_while_a_dead_one_of_ours_has_its_lease(
    site: Mesa1Site, foreign: Foreign, client: Redis, keys: Mesa1Keys
) -> None:
    """It died before the server started, so the server never saw its connection."""
    await foreign.join()
    seconds, _ = await client.time()
    await client.zadd(keys.portal_leases, {"dead": 1000 * (seconds + 2)})
    await client.sadd(keys.pool, "dead")
    notices = client.pubsub()
    await notices.subscribe(keys.pool)
    server = await site.serve()
    peer = await site.join()
    await until_pool(server, "f")
    told: list[str] = []
    async with asyncio.timeout(10):
        while not told:
            found = await notices.get_message(ignore_subscribe_messages=True, timeout=1)
            told += [found["data"]] if found else []
    assert told == ['{"id":"dead","ready":false}']
    await peer.send("N", 1)
    assert await client.smembers(keys.pool) == {"f"}
    await notices.aclose()  # type: ignore[no-untyped-call]


async def test_servers_that_find_the_same_portal_dead_say_so_once(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    """A server of 1.x that hears the same leave twice forgets another portal."""
    await client.sadd(keys.pool, "f")
    server = await site.serve()
    node = backend_of(server)._node
    assert node is not None
    notices = client.pubsub()
    await notices.subscribe(keys.pool)
    for _ in range(3):
        await node.pipelines.main.execute([remove_portal(keys, "f", "theirs", 60.0).command])
    await client.publish(keys.pool, "last")
    told = list[str]()
    async with asyncio.timeout(10):
        while "last" not in told:
            found = await notices.get_message(ignore_subscribe_messages=True, timeout=1)
            if found:
                told.append(found["data"])
    assert told == ['{"id":"f","ready":false}', "last"]
    await notices.aclose()  # type: ignore[no-untyped-call]


async def test_the_last_portal_dies_and_clients_are_not_held_up_for_long(
    site: Mesa1Site, foreign: Foreign
) -> None:
    await foreign.join()
    server = await site.serve()
    await until_pool(server, "f")
    await foreign.die()
    peer = await site.join("alice")
    await peer.send("N", 1)
    await until_pool(server)
    await until(lambda: backend_of(server).dropped_events == 3)


async def test_clients_are_held_up_for_less_time_than_a_dead_portal_may_take_to_come_back(
    site: Mesa1Site, foreign: Foreign
) -> None:
    site.lease = 30.0
    await foreign.join()
    server = await site.serve()
    await until_pool(server, "f")
    await foreign.die()
    await site.join("alice")
    assert backend_of(server).portals == ("f",)


async def test_a_portal_of_1x_that_was_taken_for_dead_comes_back(
    site: Mesa1Site, foreign: Foreign, client: Redis, keys: Mesa1Keys
) -> None:
    await foreign.join()
    server = await site.serve()
    await until_pool(server, "f")
    await foreign.die()
    await until_pool(server)
    again = client.pubsub()
    await again.subscribe(keys.portal)
    await until_pool(server, "f")
    assert await client.smembers(keys.pool) == {"f"}
    await again.aclose()  # type: ignore[no-untyped-call]


async def test_a_portal_of_ours_that_was_taken_for_dead_comes_back_and_says_so(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    record = await site.record()
    id = record.portal.portal_id
    server = await site.serve()
    await until_pool(server, id)
    notices = client.pubsub()
    await notices.subscribe(keys.pool)
    node = backend_of(server)._node
    assert node is not None
    await client.zadd(keys.portal_leases, {id: 1})
    await node.portals.look()
    assert backend_of(server).portals == ()
    await until_pool(server, id)
    told = list[bool]()
    async with asyncio.timeout(10):
        while len(told) < 2:
            found = await notices.get_message(ignore_subscribe_messages=True, timeout=1)
            if found:
                told.append(json.loads(found["data"])["ready"])
    assert told == [False, True]
    await notices.aclose()  # type: ignore[no-untyped-call]


async def test_hooks_are_told_of_portals_that_come_and_go(site: Mesa1Site, foreign: Foreign) -> None:
    told = list[tuple[str, str]]()

    class Hooks:
        async def on_portal_join(self, id: str) -> None:
            told.append(("join", id))

        async def on_portal_leave(self, id: str) -> None:
            told.append(("leave", id))

    server = await site.serve()
    server.use(Hooks())
    await foreign.join()
    await until(lambda: told == [("join", "f")])
    await foreign.leave()
    await until(lambda: told == [("join", "f"), ("leave", "f")])


async def test_our_portal_announces_itself_once_and_leaves_once(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    notices = client.pubsub()
    await notices.subscribe(keys.pool)
    portal = site.portal()
    async with portal:
        id = portal.portal_id
        assert await client.smembers(keys.pool) == {id}
        first = await client.zscore(keys.portal_leases, id) or 0

        async def is_renewed() -> bool:
            return (await client.zscore(keys.portal_leases, id) or 0) > first

        await until(is_renewed)
    assert await client.smembers(keys.pool) == set()
    told = list[str]()
    async with asyncio.timeout(10):
        while len(told) < 2:
            found = await notices.get_message(ignore_subscribe_messages=True, timeout=1)
            if found:
                told.append(found["data"])
    assert told == [f'{{"id":"{id}","ready":true}}', f'{{"id":"{id}","ready":false}}']
    await notices.aclose()  # type: ignore[no-untyped-call]


async def test_events_of_one_connection_are_handled_in_order_and_those_of_others_meanwhile(
    site: Mesa1Site,
) -> None:
    portal, seen, may_go_on = site.portal(), list[tuple[str | None, Any]](), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        if event.message.data == "wait":
            await may_go_on.wait()
        seen.append((event.id, event.message.data))

    await site.start(portal)
    server = await site.serve()
    await until_pool(server, portal.portal_id)
    slow, quick = await site.join("slow"), await site.join("quick")
    for data in ("wait", 1, 2):
        await slow.send("N", data)
    await quick.send("N", 3)
    await until(lambda: seen == [("quick", 3)])
    may_go_on.set()
    await until(lambda: len(seen) == 4)
    assert seen[1:] == [("slow", "wait"), ("slow", 1), ("slow", 2)]


async def test_events_of_one_client_of_a_server_of_1x_are_handled_in_order(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    portal, seen, may_go_on = site.portal(), list[Any](), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        if event.message.data == 0:
            await may_go_on.wait()
        seen.append(event.message.data)

    await site.start(portal)
    for n in range(5):
        event = {"type": "message", "message": {"op": 0, "d": n}, "clientId": 7, "portalId": portal.portal_id}
        await client.publish(keys.portal, json.dumps(event))
    may_go_on.set()
    await until(lambda: len(seen) == 5)
    assert seen == [0, 1, 2, 3, 4]


async def test_a_handler_that_raises_is_reported_and_not_called_again(site: Mesa1Site) -> None:
    portal, errors = site.portal(), list[str]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        if event.message.data == 1:
            raise ValueError("no")
        errors.append("went on")

    @portal.on_error
    async def on_error(error: Exception, event: PortalEvent) -> None:
        errors.append(str(error))

    await site.start(portal)
    server = await site.serve()
    await until_pool(server, portal.portal_id)
    peer = await site.join()
    await peer.send("N", 1)
    await peer.send("N", 2)
    await until(lambda: len(errors) == 2)
    assert errors == ["no", "went on"]


async def test_a_reply_reaches_the_connection_of_a_server_of_ours(site: Mesa1Site) -> None:
    portal = site.portal()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert await event.reply(Message(0, "pong", "PONG"))

    await site.start(portal)
    server = await site.serve()
    await until_pool(server, portal.portal_id)
    peer, other = await site.join(), await site.join()
    await peer.send("PING")
    assert (await peer.until(t="PONG"))["d"] == "pong"
    await other.send("PING")
    await other.until(t="PONG")
    assert [frame for frame in other.frames if frame.get("t") == "PONG"] == [
        {"op": 0, "d": "pong", "t": "PONG"}
    ]


async def test_a_reply_to_a_client_of_a_server_of_1x_is_refused(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys
) -> None:
    portal, refusals = site.portal(), list[str]()

    @portal.on_connection
    async def on_connection(event: PortalEvent) -> None:
        with pytest.raises(Unsupported, match=r"dispatch to event\.id instead") as refusal:
            await event.reply(Message(0))
        refusals.append(str(refusal.value))

    await site.start(portal)
    await client.publish(keys.portal, json.dumps({"type": "connection", "portalId": portal.portal_id}))
    await until(lambda: len(refusals) == 1)


@pytest.mark.parametrize(("bound", "value"), [("MAX_WAITING", 3), ("MAX_BYTES", 2_500)])
async def test_what_a_portal_cannot_hold_is_dropped_and_counted(
    site: Mesa1Site,
    client: Redis,
    keys: Mesa1Keys,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    bound: str,
    value: int,
) -> None:
    monkeypatch.setattr(mesa1, bound, value)
    portal, seen, may_go_on = site.portal(), list[Any](), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await may_go_on.wait()
        seen.append(event)

    await site.start(portal)
    message = {"op": 0, "d": "x" * 1000}
    event = {"type": "message", "message": message, "portalId": portal.portal_id}
    for n in range(8):
        await client.publish(keys.portal, json.dumps(event | {"clientId": str(n)}))
    await until(lambda: portal.dropped == 5)
    may_go_on.set()
    await until(lambda: len(seen) == 3)
    assert caplog.text.count("further ones are dropped") == 1


async def test_a_flood_of_one_client_drops_none_of_others(
    site: Mesa1Site, client: Redis, keys: Mesa1Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesa1, "MAX_WAITING", 8)
    portal, seen, may_go_on = site.portal(), list[Any](), asyncio.Event()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        await may_go_on.wait()
        seen.append(event.id)

    await site.start(portal)
    event = {"type": "message", "message": {"op": 0, "d": 1}, "portalId": portal.portal_id}
    for id in (*["flood"] * 9, "other", "other"):
        await client.publish(keys.portal, json.dumps(event | {"clientId": id}))
    await until(lambda: portal.dropped == 5)
    may_go_on.set()
    await until(lambda: len(seen) == 6)
    assert seen.count("other") == 2
    await client.publish(keys.portal, json.dumps(event | {"clientId": "flood"}))
    await until(lambda: len(seen) == 7)


async def test_a_portal_that_stops_handles_what_it_was_told(site: Mesa1Site) -> None:
    portal, may_go_on, seen = site.portal(), asyncio.Event(), list[Any]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        await may_go_on.wait()
        seen.append(event.message.data)

    await portal.start()
    server = await site.serve()
    await until_pool(server, portal.portal_id)
    peer = await site.join("alice")
    for n in range(3):
        await peer.send("N", n)
    source = portal._source
    assert isinstance(source, Mesa1Source)
    await until(lambda: source._received == 5)  # with the connection and its authentication
    stopping = asyncio.create_task(portal.stop())
    await until_pool(server)
    may_go_on.set()
    await stopping
    assert seen == [0, 1, 2]


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that a test may break."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_client(own_redis: RedisServer) -> AsyncIterator[Redis]:
    async with redis.asyncio.Redis.from_url(own_redis.url, decode_responses=True) as client:
        yield client


async def test_the_pool_is_put_back_when_redis_has_lost_its_data(
    own_redis: RedisServer, own_client: Redis, namespace: str, keys: Mesa1Keys, stack: AsyncExitStack
) -> None:
    site, foreign = Mesa1Site(own_redis.url, namespace, stack), Foreign(own_client, keys, "f")
    record = await site.record()
    first = await site.serve()
    await foreign.join()
    await until_pool(first, "f", record.portal.portal_id)
    await own_client.flushall()
    await until_pool_is(own_client, keys, "f", record.portal.portal_id)
    second = await site.serve()
    await until_pool(second, "f", record.portal.portal_id)
    peer = await site.join("alice")
    await peer.send("N", 1)
    await until(lambda: len(record.events) + len(foreign.heard) >= 1)
    assert sorted(backend_of(first).portals) == sorted(["f", record.portal.portal_id])


async def until_pool_is(client: Redis, keys: Mesa1Keys, *ids: str) -> None:
    async def is_so() -> bool:
        return set(await client.smembers(keys.pool)) == set(ids)

    await until(is_so)


async def test_who_may_not_see_connections_still_finds_portals_of_ours_that_died(
    own_redis: RedisServer, own_client: Redis, namespace: str, keys: Mesa1Keys, stack: AsyncExitStack
) -> None:
    await own_client.execute_command(  # type: ignore[no-untyped-call]
        "ACL", "SETUSER", "mesa", "on", "nopass", "~*", "&*", "+@all", "-client|list", "-client|setname"
    )
    site = Mesa1Site(own_redis.url.replace("redis://", "redis://mesa:x@"), namespace, stack)
    record, dead = await site.record(), site.portal()
    server = await site.serve()
    await dead.start()
    await until_pool(server, record.portal.portal_id, dead.portal_id)
    assert isinstance(dead._source, Mesa1Source)
    await dead._source._consumer.aclose()
    await until_pool(server, record.portal.portal_id)
    peer = await site.join()
    await peer.send("N", 1)
    await record.until(2)
    await dead.stop()


async def test_after_an_outage_events_are_told_again(
    own_redis: RedisServer, namespace: str, stack: AsyncExitStack
) -> None:
    site = Mesa1Site(own_redis.url, namespace, stack)
    record = await site.record()
    server = await site.serve()
    await until_pool(server, record.portal.portal_id)
    peer = await site.join()
    await record.until(1)
    own_redis.stop()
    await peer.send("N", 1)
    own_redis.start()
    await until(lambda: record.data == [1])
    await until_pool(server, record.portal.portal_id)


async def test_a_portal_that_stops_without_redis_handles_what_it_was_told(
    own_redis: RedisServer, namespace: str, stack: AsyncExitStack
) -> None:
    site = Mesa1Site(own_redis.url, namespace, stack)
    portal, may_go_on, seen = site.portal(), asyncio.Event(), list[Any]()

    @portal.on_message
    async def on_message(event: PortalEvent) -> None:
        assert event.message is not None
        await may_go_on.wait()
        seen.append(event.message.data)

    await portal.start()
    server = await site.serve()
    await until_pool(server, portal.portal_id)
    peer = await site.join()
    for n in range(3):
        await peer.send("N", n)
    work = portal._source
    assert isinstance(work, Mesa1Source)
    await until(lambda: work._events.count == 3)
    own_redis.stop()
    stopping = asyncio.create_task(portal.stop())
    await until(lambda: not work._consumer._tasks._tasks)
    may_go_on.set()
    await stopping
    assert seen == [0, 1, 2]


async def test_a_portal_whose_subscription_died_without_a_word_listens_again(
    own_redis: RedisServer, namespace: str, stack: AsyncExitStack
) -> None:
    """A firewall drops a connection that was idle for long; Redis still counts it as open."""
    site = Mesa1Site(own_redis.url, namespace, stack)
    await site.serve()
    peer = await site.join()
    proxy = await stack.enter_async_context(Proxy.to(own_redis.port))
    site.redis_url = proxy.url
    record = await site.record()
    proxy.mute_subscribers()

    async def is_told() -> bool:
        await peer.send("N", 1)
        return bool(record.events)

    await until(is_told)


def test_a_portal_of_this_wire_needs_a_redis() -> None:
    with pytest.raises(InvalidSettings, match=r"^url: expected a Redis with wire 'mesa1'"):
        Portal(MemoryHub(), wire="mesa1")
    with pytest.raises(InvalidSettings, match=r"^wire: expected 'native' or 'mesa1'"):
        Portal(wire="other")  # type: ignore[arg-type]
    with pytest.raises(Unsupported, match=r"^url: expected a Redis"):
        Portal("http://127.0.0.1:4001", wire="mesa1")
