"""The parts of an open node, and what they have to tell each other."""

import asyncio
from contextlib import suppress

from ...settings import Durability
from ..base import Receive, Watcher
from ..portal_watch import PortalWatch
from ..supervised import Tasks
from .address import Address
from .aio import Links
from .appender import Appender
from .keeper import Keeper
from .listener import Listener
from .membership import Membership
from .plan import Pulse, Seat
from .reader import Reader
from .repair import Repair
from .sweeper import Sweeper

MISSED = 2
"""Markers that may be missing, one for each heartbeat; with more, the subscription is taken for dead."""


class Nobody:
    """A watcher for a node that wants to know nothing."""

    async def catch_up(self) -> None:
        """There is nothing to catch up with."""

    def came_online(self, id: str) -> None:
        """Nobody wants to know."""

    def went_offline(self, id: str) -> None:
        """Nobody wants to know."""

    def portal_joined(self, id: str) -> None:
        """Nobody wants to know."""

    def portal_left(self, id: str) -> None:
        """Nobody wants to know."""

    def forked(self, since: float) -> None:
        """Nobody wants to know."""


class Resident:
    """One node while it is open.

    Args:
        address: where Redis is.
        links: connections to it.
        seat: the node's calls.
        receive: gets the envelopes.
        watcher: who is told what happens; None for nobody.
        timeout: seconds for one call.
        durability: what letters have to reach before they count as taken.
    """

    def __init__(
        self,
        address: Address,
        links: Links,
        seat: Seat,
        receive: Receive,
        watcher: Watcher | None,
        timeout: float,
        durability: Durability,
    ) -> None:
        told = self._told = watcher or Nobody()
        self._is_watched = watcher is not None
        self.links = links
        self._timeout = timeout
        self._tasks = Tasks()
        self._sweeper = Sweeper(links.main, seat, told)
        self.keeper = Keeper(links.main, seat, self, self._tasks)
        self.members = Membership(links.main, self.keeper, seat, told, self.on_doubt, self._sweeper.seen_off)
        self.inbox = Appender(self.keeper, seat, links, durability)
        self._portals = PortalWatch(told)
        self._watches_portals = seat.watches_portals
        self._repair = Repair(self.keeper, seat, self.members, told)
        self.listener = Listener(receive, self.members.roster, self.members.give_up, self.on_doubt)
        # Who was away may have come back to a Redis that forgot everything.
        self._reader = Reader(
            address, [seat.keys.channel(seat.node)], self.listener.on_frame, self.on_doubt, timeout
        )

    @property
    def is_ready(self) -> bool:
        """Whether messages reach this node, and none has passed it by."""
        return self._reader.is_subscribed and self.keeper.has_lease and self._repair.is_mended

    async def open(self) -> None:
        """Listen first: from the lease on, others send."""
        await self._reader.open()
        await self.keeper.open()
        self.inbox.check()
        self._tasks.start(self._repair.run, "repair")
        if self._is_watched:
            self._tasks.start(self._sweeper.run, "sweeper")

    async def aclose(self) -> None:
        """Leave at once, within the time limit."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._timeout):
                    await self._tasks.aclose(self._timeout)
                    await self.keeper.leave()
        finally:
            await self._reader.aclose()
            await self.links.aclose()

    async def on_beat(self, pulse: Pulse) -> None:
        """A marker is under way; if those before it never came, the subscription is dead."""
        self.listener.unheard += 1
        if self.listener.unheard > MISSED:
            self.listener.unheard = 0
            await self._reader.restart()
        if pulse.was_passed_over:
            self.on_doubt()
        self.members.confirm()
        since = self.keeper.runs.ended(pulse.run)
        if since is not None:
            self._told.forked(since)
        if self._watches_portals:
            self._portals.look(id.decode(errors="replace") for id in pulse.portals)
        if pulse.gone:
            self._sweeper.look()

    def on_doubt(self) -> None:
        """Something may have been missed, or forgotten by Redis."""
        self._repair.doubt()

    def on_lost_lease(self) -> None:
        """Others may have told that the ids of this node are offline."""
        self.members.roster.untell()
