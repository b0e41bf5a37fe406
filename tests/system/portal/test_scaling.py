"""From one portal to sixteen and back, while clients send."""

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any

from mesa_ws import Authentication, Portal, PortalEvent
from mesa_ws.backend.inbox import PARTITIONS
from tests.system.portal.conftest import Site
from tests.system.server.peer import Peer
from tests.system.waiting import until

CLIENTS = 32

PACE = 0.02
"""Seconds between two messages of one client."""

UNDER_WAY = 2 * CLIENTS
"""Messages that are sent and not handled: a machine that is busy has no more of them than another."""


class Team:
    """Portals of one application, and what they handle in the order in which they do."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._portals: list[Portal] = []
        self.lives: dict[str, list[Any]] = defaultdict(list)
        self.deliveries: set[int] = set()
        self.may_send = asyncio.Semaphore(UNDER_WAY)

    async def become(self, size: int) -> None:
        """Let portals come or go, and wait until the others share the queues."""
        while len(self._portals) < size:
            portal = self._site.portal()
            for register in (portal.on_connection, portal.on_message, portal.on_disconnection):
                register(self._handle)
            self._portals.append(await self._site.start(portal))
        leaving, self._portals = self._portals[size:], self._portals[:size]
        await asyncio.gather(*(portal.stop() for portal in leaving))
        await until(self._is_settled)

    @property
    def handled(self) -> int:
        return sum(map(len, self.lives.values()))

    async def until_handled(self, count: int) -> None:
        await until(lambda: self.handled >= count)

    def _is_settled(self) -> bool:
        owned = [len(portal.queues) for portal in self._portals]
        return sum(owned) == PARTITIONS and max(owned) - min(owned) <= 1

    async def _handle(self, event: PortalEvent) -> None:
        await asyncio.sleep(0)  # others have a chance to be faster
        if event.message is not None:
            self.may_send.release()
        what = event.type if event.message is None else event.message.data
        self.lives[event.connection_id].append(what)
        self.deliveries.add(event.deliveries)


async def test_portals_come_and_go_without_loss_disorder_or_repetition(site: Site) -> None:
    site.lease = 3.0  # a busy machine may stall, and who lost a lease handles events again
    await site.serve(authentication=Authentication(timeout=None))  # the clients stay without
    team, is_over = Team(site), asyncio.Event()
    await team.become(1)
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        peers = [await stack.enter_async_context(site.connect()) for _ in range(CLIENTS)]
        sending = [tasks.create_task(send(peer, team, is_over)) for peer in peers]
        for size in (2, 5, 16, 9, 3, 1):
            await team.become(size)
            await team.until_handled(team.handled + CLIENTS)
        is_over.set()
        counts = [await each for each in sending]
    await until(lambda: sum(life[-1] == "disconnection" for life in team.lives.values()) == CLIENTS)
    whole = [["connection", *range(count), "disconnection"] for count in counts]
    assert sorted(team.lives.values(), key=len) == sorted(whole, key=len)
    assert team.deliveries == {1}


async def send(peer: Peer, team: Team, is_over: asyncio.Event) -> int:
    """Send numbers from 0 on, until it is over; then close."""
    count = 0
    while not is_over.is_set():
        await team.may_send.acquire()
        await peer.send("N", count)
        count += 1
        await asyncio.sleep(PACE)
    await peer.socket.close()
    return count
