"""Clients that flood portals, with an id or without, keep no other client from them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mesa_ws import Connection, MemoryBackend, MemoryHub, Portal, PortalEvent, Server, User, serve
from mesa_ws.backend.inbox import FEW
from mesa_ws.backend.memory import MemoryPortalConsumer
from mesa_ws.middleware.prometheus import PrometheusMetrics
from mesa_ws.server.portal_forwarding import GUESTS_PART
from mesa_ws.transports.run import Endpoint
from tests.system.server.peer import LIMIT, Peer
from tests.system.waiting import until

PLACES = 400
"""Of the one queue."""

EACH = 220
"""Messages of a client that floods, more than half of the places."""


class Site:
    """A server with portals.

    Attributes:
        seen: the data of the messages that a portal has handled, by connection.
        order: the ids that they came from.
        goes_on: what the handler of the portal waits for.
    """

    def __init__(self, stack: AsyncExitStack) -> None:
        self.hub = MemoryHub()
        self.seen: defaultdict[str, list[Any]] = defaultdict(list)
        self.order: list[str | None] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.registry = CollectorRegistry()
        self._stack = stack
        self.endpoint: Endpoint
        self.server: Server

    async def serve(self, **options: Any) -> None:
        portals = {"enabled": True, "backlog_max": PLACES, "distribute_load": False}
        server = self.server = Server(MemoryBackend(self.hub), portals=portals, **options)
        server.use(lambda server: PrometheusMetrics(server, self.registry))

        @server.authenticator
        async def authenticate(data: Any, _: Connection) -> User:
            return User(data["id"])

        self.endpoint = await self._stack.enter_async_context(serve(server, "127.0.0.1", 0))

    async def join(self, id: str | None = None) -> Peer:
        peer = await self._stack.enter_async_context(Peer.connect(self.endpoint.url))
        if id is not None:
            await peer.authenticate(id)
        return peer

    async def flood(self, peer: Peer) -> None:
        self._stack.callback(asyncio.create_task(send_all(peer, EACH)).cancel)

    async def waiting(self) -> int:
        consumer = MemoryPortalConsumer(self.hub)
        try:
            return (await consumer.backlog()).waiting
        finally:
            await consumer.aclose()

    async def until_waiting(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while await self.waiting() < count:
                await asyncio.sleep(0.01)

    async def drain(self, count: int) -> None:
        """Start a portal, and wait until it has handled so many messages."""
        await self.portal()
        await until(lambda: len(self.order) == count)

    def delayed(self) -> float:
        return self.registry.get_sample_value("mesa_portal_events_delayed_total") or 0.0

    async def portal(self, **options: Any) -> Portal:
        portal = Portal(self.hub, **options)

        @portal.on_message
        async def note(event: PortalEvent) -> None:
            assert event.message is not None
            await self.goes_on.wait()
            self.seen[event.connection_id].append(event.message.data)
            self.order.append(event.id)

        return await self._stack.enter_async_context(portal)


async def send_all(peer: Peer, count: int) -> None:
    for n in range(count):
        await peer.send("HI", n)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(stack)


async def test_guests_fill_no_more_than_their_part_of_the_backlog_and_lose_nothing(site: Site) -> None:
    await site.serve()
    guests = [await site.join() for _ in range(10)]
    for guest in guests:
        await site.flood(guest)
    part = PLACES // GUESTS_PART
    await until(lambda: site.delayed() == len(guests))
    assert await site.waiting() == part
    guests.append(await site.join())
    user = await site.join("user")  # beginnings and logins have their places nevertheless
    await send_all(user, FEW)
    await site.until_waiting(part + 3 + FEW)
    assert site.delayed() == len(guests) - 1
    await site.drain(10 * EACH + FEW)
    assert sorted(map(len, site.seen.values())) == [FEW, *[EACH] * 10]
    assert all(data == list(range(len(data))) for data in site.seen.values())


@pytest.mark.parametrize("who", ["id", "network"])
async def test_connections_of_one_id_or_network_share_its_places(site: Site, who: str) -> None:
    """The limits of networks have no exception here, so that this machine is one."""
    await site.serve(limits={"exempt_networks": None})
    peers = [await site.join("flood" if who == "id" else None) for _ in range(4)]
    before = await site.waiting()
    for peer in peers:
        await site.flood(peer)
    most = PLACES if who == "id" else PLACES // GUESTS_PART
    await until(lambda: site.delayed() == len(peers))
    assert before < await site.waiting() <= most // 2 + 2 * len(peers)
    await site.drain(4 * EACH)


async def test_a_server_without_an_authenticator_has_no_guests(site: Site) -> None:
    portals = {"enabled": True, "backlog_max": PLACES, "distribute_load": False}
    server = Server(MemoryBackend(site.hub), portals=portals, limits={"exempt_networks": None})
    async with serve(server, "127.0.0.1", 0) as site.endpoint:
        await site.flood(await site.join())
        await site.until_waiting(PLACES // 2)
        await site.drain(EACH)


async def test_messages_of_guests_reach_portals_unless_that_is_forbidden(site: Site) -> None:
    await site.serve(authentication={"anonymous": False})
    await site.portal()
    guest, user = await site.join(), await site.join()
    await user.raw('{"op":2,"d":{"id":"user"}}')
    await user.send("HI", 1)  # right behind the login
    await until(lambda: site.order == ["user"])
    await guest.send("HI", 2)
    await guest.send("HI", 3)
    await guest.socket.wait_closed()
    assert guest.socket.close_code == 1008
    await user.send("HI", 4)
    await until(lambda: len(site.order) == 2)
    assert site.order == ["user"] * 2


async def test_an_id_that_floods_delays_handlers_of_that_id_alone(site: Site) -> None:
    await site.serve()
    floods = [await site.join("flood") for _ in range(6)]
    for peer in floods:
        await send_all(peer, 20)
    await site.until_waiting(6 * (20 + 2))
    site.goes_on.clear()
    slots: Any = (await site.portal(concurrency=2))._source
    await send_all(await site.join("other"), 3)
    await until(lambda: {"flood", None} <= slots._handling._slots._waiting.keys())
    site.goes_on.set()
    await until(lambda: len(site.order) == 6 * 20 + 3)
    assert [n for n, id in enumerate(site.order) if id == "other"][2] < 15  # two were begun before
