"""Genuine servers and portals beside ours in one cluster, and what becomes of it when they are killed."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Mesa1Backend, Message, Portal, PortalEvent, Server, serve
from mesa_ws.backend.mesa1.keys import Keys
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer
from tests.system.waiting import until

from .foreign import ForeignProcess
from .harness import PY_PORTAL
from .npm_packages import Unavailable

Redis = redis.asyncio.Redis


class Cluster:
    """Processes of both kinds."""

    def __init__(self, url: str, namespace: str, stack: AsyncExitStack) -> None:
        self.url = url
        self.namespace = namespace
        self._stack = stack

    async def foreign(self, program: str) -> ForeignProcess:
        try:
            process = self._stack.enter_context(ForeignProcess(program, self.url, self.namespace))
        except Unavailable as why:
            pytest.skip(f"the npm packages are not here: {why}")
        await asyncio.to_thread(lambda: process.ready)
        return process

    async def serve(self) -> tuple[Mesa1Backend, str]:
        backend = Mesa1Backend(self.url, namespace=self.namespace, lease=1.5)
        server: Server = accepting(
            backend=backend, namespace=self.namespace, wire="mesa1", sync=True, portals=True
        )
        endpoint = await self._stack.enter_async_context(serve(server))
        return backend, endpoint.url

    async def portal(self) -> "Told":
        told = Told(Portal(self.url, namespace=self.namespace, wire="mesa1", lease=1.5))
        await self._stack.enter_async_context(told.portal)
        return told

    async def join(self, url: str, id: str) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(url))
        await peer.authenticate(id)
        return peer


class Told:
    """What a portal of ours was told."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.events: list[PortalEvent] = []
        portal.on_connection(self.events.append)
        portal.on_authentication(self.events.append)
        portal.on_message(self.events.append)
        portal.on_disconnection(self.events.append)

    @property
    def messages(self) -> list[Any]:
        return [event.message.data for event in self.events if event.message is not None]


@pytest.fixture
async def cluster(redis_url: str, namespace: str) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as stack:
        yield Cluster(redis_url, namespace, stack)


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


def url_of(server: ForeignProcess) -> str:
    return f"ws://127.0.0.1:{server.ready['port']}/"


async def test_servers_and_portals_of_both_kinds_share_the_work(cluster: Cluster) -> None:
    theirs, ours = await cluster.foreign("portal.js"), await cluster.portal()
    their_server = await cluster.foreign("server.js")
    backend, our_url = await cluster.serve()
    assert set(backend.portals) == {theirs.ready["id"], ours.portal.portal_id}
    peers = [await cluster.join(url, "alice") for url in (our_url, url_of(their_server))]
    for n in range(20):
        await peers[n % 2].send("N", n)
    await until(lambda: len(theirs.messages) + len(ours.messages) == 20)
    assert sorted([*theirs.messages, *ours.messages]) == list(range(20))
    assert len(ours.messages) == 10
    assert {event.node for event in ours.events} == {backend.node_id, ""}


async def test_a_genuine_portal_that_was_killed_is_taken_out_everywhere(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    their_server = await cluster.foreign("server.js")
    backend, our_url = await cluster.serve()
    theirs = await cluster.foreign("portal.js")
    dead = theirs.ready["id"]
    await until(lambda: knows_connection(backend, dead))
    ours = await cluster.portal()
    await until(lambda: set(backend.portals) == {dead, ours.portal.portal_id})
    theirs.kill()
    ours_peer = await cluster.join(our_url, "alice")
    for n in range(20):
        await ours_peer.send("N", n)
    await until(lambda: ours.messages == list(range(20)))
    await until(lambda: backend.portals == (ours.portal.portal_id,))
    assert await client.smembers(keys.pool) == {ours.portal.portal_id}
    theirs_peer = await cluster.join(url_of(their_server), "bob")
    for n in range(20, 30):
        await theirs_peer.send("N", n)
    await until(lambda: ours.messages == list(range(30)))


def knows_connection(backend: Mesa1Backend, portal: str) -> bool:
    node = backend._node
    assert node is not None
    return portal in node.portals._vitality._bound


async def test_a_genuine_portal_that_leaves_is_left_alone(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    backend, _ = await cluster.serve()
    theirs = await cluster.foreign("portal.js")
    await until(lambda: backend.portals == (theirs.ready["id"],))
    assert theirs.stop() == 0
    await until(lambda: backend.portals == ())
    assert await client.smembers(keys.pool) == set()


async def test_a_portal_of_ours_that_was_taken_for_dead_is_known_to_genuine_servers_again(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    their_server = await cluster.foreign("server.js")
    ours = await cluster.portal()
    backend, _ = await cluster.serve()
    node = backend._node
    assert node is not None
    await client.zadd(keys.portal_leases, {ours.portal.portal_id: 1})
    await node.portals.look()
    assert backend.portals == ()
    await until(lambda: backend.portals == (ours.portal.portal_id,))
    peer = await cluster.join(url_of(their_server), "alice")
    await peer.send("N", 1)
    await until(lambda: ours.messages == [1])


async def test_when_a_genuine_server_is_killed_ours_goes_on(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    """1.x leaves the id of its client in the set. With no other server of 1.x it counts as away."""
    their_server = await cluster.foreign("server.js")
    backend, our_url = await cluster.serve()
    ours = await cluster.portal()
    await until(lambda: backend.portals == (ours.portal.portal_id,))
    mine = await cluster.join(our_url, "here")
    await cluster.join(url_of(their_server), "ghost")
    async with AsyncDispatcher(
        cluster.url, namespace=cluster.namespace, wire="mesa1", sync=True
    ) as dispatcher:
        assert await dispatcher.presence.online(["here", "ghost"]) == {"here": 1, "ghost": 1}
        their_server.kill()
        await until(lambda: is_offline(dispatcher, "ghost"))
        assert await client.smembers(keys.connected) == {"here", "ghost"}
        await dispatcher.dispatch(Message(0, 1), ["here"])
        assert [each["d"] for each in await mine.messages(1)] == [1]
        await mine.send("N", 2)
        await until(lambda: ours.messages == [2])
        await dispatcher.dispatch(Message(0, 3), ["ghost"])
        assert json.loads(await client.hget(keys.undelivered, "ghost") or "[]") == [{"op": 0, "d": 3}]
        back = await cluster.join(our_url, "ghost")
        assert [each["d"] for each in await back.messages(1)] == [3]
        await back.socket.close()
        await until(lambda: is_offline(dispatcher, "ghost"))
        assert await client.smembers(keys.connected) == {"here"}


async def test_an_id_that_leaves_a_genuine_server_is_still_here(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    """1.x takes the id out of the set for everybody; ours put it back."""
    their_server = await cluster.foreign("server.js")
    _, our_url = await cluster.serve()
    phone, laptop = await cluster.join(url_of(their_server), "7"), await cluster.join(our_url, "7")
    async with AsyncDispatcher(
        cluster.url, namespace=cluster.namespace, wire="mesa1", sync=True
    ) as dispatcher:
        await dispatcher.dispatch(Message(0, 1), ["7"])
        for peer in (phone, laptop):
            assert [each["d"] for each in await peer.messages(1)] == [1]
        await phone.socket.close()
        for n in range(2, 50):
            await dispatcher.dispatch(Message(0, n), ["7"])
        assert [each["d"] for each in await laptop.messages(48)] == list(range(2, 50))
        await until(lambda: is_member(client, keys, "7"))
        assert not await client.exists(keys.undelivered)


async def is_member(client: Redis, keys: Keys, id: str) -> bool:
    return bool(await client.sismember(keys.connected, id))


async def test_what_is_for_an_id_that_left_us_and_is_still_there_waits(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    """Nobody can tell such an id from one that a killed server has left behind; nothing is lost."""
    their_server = await cluster.foreign("server.js")
    _, our_url = await cluster.serve()
    phone, laptop = await cluster.join(url_of(their_server), "7"), await cluster.join(our_url, "7")
    await laptop.socket.close()
    async with AsyncDispatcher(
        cluster.url, namespace=cluster.namespace, wire="mesa1", sync=True
    ) as dispatcher:
        await until(lambda: is_offline(dispatcher, "7"))
        await dispatcher.dispatch(Message(0, "waits"), ["7"])
    await phone.socket.close()
    back = await cluster.join(url_of(their_server), "7")
    assert [each["d"] for each in await back.messages(1)] == ["waits"]


async def is_offline(dispatcher: AsyncDispatcher, id: str) -> bool:
    return await dispatcher.presence.online([id]) == {id: 0}


async def test_a_portal_stopped_by_sigterm_leaves_and_ends_well(
    cluster: Cluster, client: Redis, keys: Keys
) -> None:
    order = json.dumps({"redis": cluster.url, "namespace": cluster.namespace, "reportAllEvents": False})
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PY_PORTAL), order, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    assert await client.smembers(keys.pool) == {ready["id"]}
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
    assert await client.smembers(keys.pool) == set()
