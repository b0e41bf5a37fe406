"""Servers are told which portals come and go."""

import asyncio
import logging

import pytest

from mesa_ws.backend.redis.portal_consumer import RedisPortalConsumer
from mesa_ws.transports.run import Server, serve
from tests.system.portal.conftest import LEASE, Site
from tests.system.server.conftest import accepting
from tests.system.server.peer import LIMIT


class Portals:
    """A middleware that notes who came and went."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    async def on_portal_join(self, id: str) -> None:
        self._note("join", id)

    async def on_portal_leave(self, id: str) -> None:
        self._note("leave", id)

    async def until(self, *changes: tuple[str, str]) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.changes) < len(changes):
                self._news.clear()
                await self._news.wait()
        assert self.changes == list(changes)

    def _note(self, change: str, id: str) -> None:
        self.changes.append((change, id))
        self._news.set()


def watch(server: Server) -> Portals:
    portals = Portals()
    server.use(portals)
    return portals


async def test_a_portal_logs_that_it_comes_and_goes(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    await site.serve()
    with caplog.at_level(logging.INFO, "mesa_ws.portal"):
        async with site.portal() as portal:
            id = portal.portal_id
            assert f"portal {id} is up" in caplog.text
    assert f"portal {id} is down" in caplog.text


async def test_middleware_is_told_of_portals_that_come_and_go(site: Site) -> None:
    servers = [watch(await site.serve()) for _ in range(2)]
    first, second = site.portal(), site.portal()
    async with first:
        changes = [("join", first.portal_id)]
        for told in servers:
            await told.until(*changes)
        async with second:
            changes.append(("join", second.portal_id))
            for told in servers:
                await told.until(*changes)
        changes += [("leave", changes[1][1]), ("leave", changes[0][1])]
        for told in servers:
            await told.until(*changes[:3])
    for told in servers:
        await told.until(*changes)


async def test_each_change_is_told_once(site: Site) -> None:
    told = watch(await site.serve())
    async with site.portal() as stays:
        changes = [("join", stays.portal_id)]
        for _ in range(3):
            async with site.portal() as other:
                changes.append(("join", other.portal_id))
                await told.until(*changes)
            changes.append(("leave", changes[-1][1]))
            await told.until(*changes)


async def test_a_server_is_told_of_portals_that_were_there_before(site: Site) -> None:
    async with site.portal() as portal:
        server = accepting(backend=site.backend(), namespace=site.namespace, portals=True)
        told = watch(server)
        async with serve(server):
            await told.until(("join", portal.portal_id))


async def test_a_server_without_portals_is_told_nothing(site: Site) -> None:
    told, control = watch(await site.serve(portals=False)), watch(await site.serve())
    async with site.portal() as portal:
        changes = [("join", portal.portal_id), ("leave", portal.portal_id)]
        await control.until(*changes[:1])
    await control.until(*changes)
    assert told.changes == []


async def test_a_portal_that_was_killed_leaves_when_its_lease_ends(redis_site: Site) -> None:
    told = watch(await redis_site.serve())
    killed = RedisPortalConsumer(redis_site.redis_url, namespace=redis_site.namespace, lease=LEASE)
    await killed.heartbeat([0])
    await killed.aclose()  # without saying that it goes
    await told.until(("join", killed.portal_id), ("leave", killed.portal_id))
