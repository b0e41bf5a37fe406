"""A node, as the others see it."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from types import MappingProxyType

from ...messages.envelope import Envelope
from ..base import IdPage, Receive, Watcher


@dataclass(slots=True)
class Holding:
    """What a node holds of an id.

    Attributes:
        sockets: connections.
        floor: the lowest sequence that all of them have, as far as the node has told.
        epoch: that was given out before anything was stored; empty for none.
    """

    sockets: int = 0
    floor: int = 0
    epoch: str = ""


@dataclass(slots=True, eq=False)
class Seat:
    """What an open node gave, and whom it holds.

    Attributes:
        loop: where it is called.
        receive: takes its messages.
        watcher: is told who comes and goes.
        ttl: seconds for which positions at this node stay good.
        grace: seconds that an id may be away.
        window: seconds for which acknowledged messages are kept for other devices.
        node: its name.
        held: its ids.
        connections: how many it has, logged in or not.
    """

    loop: asyncio.AbstractEventLoop
    receive: Receive
    watcher: Watcher | None
    ttl: float
    grace: float
    window: float
    node: str = ""
    held: dict[str, Holding] = field(default_factory=dict)
    connections: int = 0

    def deliver(self, envelope: Envelope) -> None:
        """Hand over a message in the next turn of the event loop, behind those before."""
        self.loop.call_soon(self.receive, envelope)


_NOBODY: Mapping[Seat, Holding] = MappingProxyType({})

PAGE = 500
"""Ids on one page."""


class Holders:
    """The connections of all ids, by node.

    An id that leaves counts as present until the grace is over, so that one that comes back in
    time has never been away.
    """

    def __init__(self) -> None:
        self.seats: dict[Seat, None] = {}
        self._by_id: dict[str, dict[Seat, Holding]] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def page(self, after: str) -> IdPage:
        """The first ids behind one, in the order of their characters."""
        ids = nsmallest(PAGE, (id for id in self._by_id if id > after))
        return IdPage(tuple(ids), ids[-1] if len(ids) == PAGE else None)

    def of(self, id: str) -> Mapping[Seat, Holding]:
        """The nodes that hold `id`, and what they hold of it."""
        return self._by_id.get(id, _NOBODY)

    def online(self, id: str) -> int:
        """Connections of `id` on all nodes."""
        return sum(holding.sockets for holding in self.of(id).values())

    def floor(self, id: str) -> float:
        """The lowest sequence that all connections of `id` have; infinity for one without any."""
        return min((holding.floor for holding in self.of(id).values()), default=math.inf)

    def hold(self, seat: Seat, id: str, sockets: int) -> Holding:
        """Take note of the connections of `id` at a seat."""
        holding = seat.held.get(id)
        if holding is None:
            self._come(seat, id)
            holding = seat.held[id] = self._by_id.setdefault(id, {})[seat] = Holding()
        holding.sockets = sockets
        return holding

    def leave(self, seat: Seat, id: str) -> None:
        """Take note that `id` has left a seat; told if it stays away for longer than the grace."""
        if seat.held.pop(id, None) is None:
            return
        holders = self._by_id[id]
        del holders[seat]
        if not holders:
            del self._by_id[id]
            self._leaving[id] = seat.loop.call_later(seat.grace, self._go, seat, id)

    def _come(self, seat: Seat, id: str) -> None:
        if id in self._by_id:
            return
        leaving = self._leaving.pop(id, None)
        if leaving is not None:
            leaving.cancel()
        elif seat.watcher is not None:
            seat.loop.call_soon(seat.watcher.came_online, id)

    def _go(self, left: Seat, id: str) -> None:
        """Tell the node that it left, or another if that one has closed."""
        del self._leaving[id]
        for seat in (left, *self.seats):
            if seat in self.seats and seat.watcher is not None:
                seat.watcher.went_offline(id)
                return
