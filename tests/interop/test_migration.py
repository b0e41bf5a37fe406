"""The migration that the guide for npm users describes: mix, replace, flip, and flip back."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal, NamedTuple

import pytest
import redis.asyncio

from mesa_ws import AsyncDispatcher, Client, Message, Portal, serve
from mesa_ws.backend.mesa1.keys import Mesa1Keys
from tests.ports import free_port
from tests.system.server.conftest import accepting
from tests.system.server.peer import Peer
from tests.system.waiting import until

from .mixed import Cluster, Told, url_of

pytestmark = pytest.mark.timeout(120)

Redis = redis.asyncio.Redis

EVERYBODY = ["old", "new", "away"]


class Ours(NamedTuple):
    """Our processes, all on the same wire."""

    portal: Told
    dispatcher: AsyncDispatcher

    async def dispatch(self, numbers: Iterable[int], ids: Sequence[str] = EVERYBODY) -> None:
        for number in numbers:
            await self.dispatcher.dispatch(Message(0, number, "M"), ids)


@pytest.fixture
def port() -> int:
    """URL of our server, on either wire."""
    return free_port()


@asynccontextmanager
async def ours(
    cluster: Cluster, port: int, wire: Literal["native", "mesa1"], **options: Any
) -> AsyncIterator[Ours]:
    address: dict[str, Any] = {"namespace": cluster.namespace, "wire": wire}
    heartbeat = {"enabled": True, "interval": 0.2, "max_attempts": 1000}
    reconnect = {"enabled": True, "interval": 0.1}
    server = accepting(
        backend=cluster.url,
        sync=True,
        portals=True,
        heartbeat=heartbeat,
        reconnect=reconnect,
        **address,
        **options,
    )
    portal = Told(Portal(cluster.url, **address))
    async with (
        serve(server, port=port),
        portal.portal,
        AsyncDispatcher(cluster.url, sync=True, **address) as dispatcher,
    ):
        yield Ours(portal, dispatcher)


async def theirs_dispatches(cluster: Cluster, numbers: Iterable[int], ids: Sequence[str] = EVERYBODY) -> None:
    await cluster.foreign("dispatch.js", ids=list(ids), numbers=list(numbers), away="away")


async def numbers(client: Peer | Client, count: int) -> list[Any]:
    """Return the next message of a client, and answer heartbeats before it."""
    if isinstance(client, Client):
        return [(await anext(client)).data for _ in range(count)]
    return [message["d"] for message in await client.messages(count)]


async def nothing_comes(client: Peer) -> bool:
    """Return whether no message was under way to a client that has just logged in."""
    await client.answer()
    return [frame for frame in client.frames if frame["op"] == 0] == []


async def test_the_whole_migration(cluster: Cluster, client: Redis, keys: Mesa1Keys, port: int) -> None:
    their_server, their_portal = await cluster.foreign("server.js"), await cluster.foreign("portal.js")
    our_url = f"ws://127.0.0.1:{port}/"
    old = await cluster.join(url_of(their_server), "old")
    await theirs_dispatches(cluster, range(5), ["old", "away"])
    assert await numbers(old, 5) == list(range(5))

    async with AsyncExitStack() as ending:
        async with ours(cluster, port, "mesa1") as mixed:
            new = await ending.enter_async_context(Client(our_url))
            await new.authenticate({"id": "new"})
            await mix(cluster, mixed, old, new, their_portal)
            their_portal.kill()
            their_server.stop()
            old = await replace(cluster, mixed, our_url, client, keys)
        assert await client.smembers(keys.pool) == set()
        async with ours(cluster, port, "native", import_from_1x=True) as native:
            await flip(cluster, native, our_url, new)
            assert not await client.exists(keys.undelivered)
    await go_back_and_forth(cluster, our_url, port)


async def mix(cluster: Cluster, mixed: Ours, old: Peer, new: Client, their_portal: Any) -> None:
    await mixed.dispatch(range(5, 10))
    await theirs_dispatches(cluster, range(10, 15))
    assert await numbers(old, 10) == list(range(5, 15))
    assert await numbers(new, 10) == list(range(5, 15))
    for n in range(10):
        await old.send("N", n)
        await new.send(Message(0, 10 + n, "N"))
    await until(lambda: len(their_portal.messages) + len(mixed.portal.messages) == 20)
    assert sorted([*their_portal.messages, *mixed.portal.messages]) == list(range(20))


async def replace(cluster: Cluster, mixed: Ours, our_url: str, client: Redis, keys: Mesa1Keys) -> Peer:
    await until(lambda: is_alone(client, keys, mixed))
    await mixed.dispatch(range(15, 20), ["old", "away"])
    old = await cluster.join(our_url, "old")
    assert await numbers(old, 5) == list(range(15, 20))
    await until_proven(old, client, keys)
    assert await mixed.dispatcher.presence.online(EVERYBODY) == {"old": 1, "new": 1, "away": 0}
    handled = len(mixed.portal.messages)
    for n in range(20, 30):
        await old.send("N", n)
    await until(lambda: mixed.portal.messages[handled:] == list(range(20, 30)))
    return old


async def is_alone(client: Redis, keys: Mesa1Keys, mixed: Ours) -> bool:
    return await client.smembers(keys.pool) == {mixed.portal.portal.portal_id}


async def until_proven(peer: Peer, client: Redis, keys: Mesa1Keys) -> None:
    """Answer heartbeats until the list of stored messages of an id is gone."""

    async def is_forgotten() -> bool:
        await peer.answer()
        return not await client.hexists(keys.undelivered, "old")

    await until(is_forgotten)


async def flip(cluster: Cluster, native: Ours, our_url: str, new: Client) -> None:
    await native.dispatch(range(20, 25))
    old, away = await cluster.join(our_url, "old"), await cluster.join(our_url, "away")
    assert await numbers(old, 5) == list(range(20, 25))
    assert await numbers(new, 5) == list(range(20, 25))
    everything = [*range(5), *range(5, 15), *range(15, 20), *range(20, 25)]
    assert await numbers(away, len(everything)) == everything
    await away.answer()
    for n in range(30, 40):
        await new.send(Message(0, n, "N"))
    await until(lambda: native.portal.messages == list(range(30, 40)))


async def go_back_and_forth(cluster: Cluster, our_url: str, port: int) -> None:
    """Assert that messages stored on the native wire wait for the next flip, and arrive once."""
    async with ours(cluster, port, "native", import_from_1x=True) as native:
        away = await cluster.join(our_url, "away")
        await native.dispatch([100], ["later"])
        assert await nothing_comes(away)
    async with ours(cluster, port, "mesa1") as back:
        later = await cluster.join(our_url, "later")
        await back.dispatch([101], ["later"])
        assert await numbers(later, 1) == [101]
    async with ours(cluster, port, "native", import_from_1x=True):
        later = await cluster.join(our_url, "later")
        assert await numbers(later, 1) == [100]
