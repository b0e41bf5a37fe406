"""Clusters of genuine and our servers and portals, also when genuine ones are killed."""

import asyncio
import json
import sys

import redis.asyncio

from mesa_ws import AsyncDispatcher, Mesa1Backend, Message
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.system.waiting import until

from .harness import PY_PORTAL
from .mixed import Cluster, url_of

Redis = redis.asyncio.Redis


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
    cluster: Cluster, client: Redis, keys: Mesa1Keys
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
    return portal in node.portals._liveness._bound


async def test_a_genuine_portal_that_leaves_is_left_alone(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    backend, _ = await cluster.serve()
    theirs = await cluster.foreign("portal.js")
    await until(lambda: backend.portals == (theirs.ready["id"],))
    assert theirs.stop() == 0
    await until(lambda: backend.portals == ())
    assert await client.smembers(keys.pool) == set()


async def test_a_portal_of_ours_that_was_taken_for_dead_is_known_to_genuine_servers_again(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
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
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    """1.x leaves the id of its client in the set. Without another server of 1.x, it counts as away."""
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
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    """1.x removes the id from the set for all servers; ours put it back."""
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


async def is_member(client: Redis, keys: Mesa1Keys, id: str) -> bool:
    return bool(await client.sismember(keys.connected, id))


async def test_what_is_for_an_id_that_left_us_and_is_still_there_waits(
    cluster: Cluster, client: Redis, keys: Mesa1Keys
) -> None:
    """Such an id looks like one that a killed server has left behind; no message is lost."""
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
    cluster: Cluster, client: Redis, keys: Mesa1Keys
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
