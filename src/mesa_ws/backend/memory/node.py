"""Nodes of one namespace, and the connections that they hold."""

import asyncio
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from types import MappingProxyType

from ...concurrency.limited_log import LimitedLog
from ...concurrency.retry import SpacedCall
from ...concurrency.tasks import end, start
from ...messages.envelope import Envelope
from ..base import Receive, Watcher
from ..queries import IdPage

PAGE = 500
"""Ids on one page."""

REREAD_PAUSE = 1.0
"""Seconds, at least, between two times that a node reads again because its server failed on a message."""

log = logging.getLogger("mesa_ws.backend")


@dataclass(slots=True)
class Holding:
    """Connections of one id on one node.

    Attributes:
        sockets: number of connections.
        floor: the lowest sequence that all of them have acknowledged, as far as the node has reported.
        epoch: the epoch that a connection got before the first message was stored; empty if there is none.
    """

    sockets: int = 0
    floor: int = 0
    epoch: str = ""


@dataclass(slots=True, eq=False)
class MemoryNode:
    """An open node.

    Attributes:
        loop: event loop of the callbacks.
        receive: called with each message to this node.
        watcher: learns which ids and portals come and go.
        ttl: seconds for which positions at this node stay valid.
        grace: seconds that an id may be away.
        window: seconds for which acknowledged messages are kept for other devices.
        name: random name of the node.
        held: id -> its connections here.
        connections: number of all connections, authenticated or not.
        carried_out: sequence of the last order to all nodes that it has carried out.
        is_open: whether it has not left.
    """

    loop: asyncio.AbstractEventLoop
    receive: Receive
    watcher: Watcher | None
    ttl: float
    grace: float
    window: float
    name: str = ""
    held: dict[str, Holding] = field(default_factory=dict)
    connections: int = 0
    carried_out: int = 0
    is_open: bool = True
    _reading: asyncio.Task[None] | None = None
    _rereads: SpacedCall = field(init=False)
    _log: LimitedLog = field(default_factory=lambda: LimitedLog(log))

    def __post_init__(self) -> None:
        self._rereads = SpacedCall(self._reread, REREAD_PAUSE)

    def deliver(self, envelope: Envelope) -> None:
        """Pass a message to the node in the next turn of the event loop, after earlier messages."""
        self.loop.call_soon(self._receive, envelope)

    def close(self) -> None:
        """Read nothing again: the node has left."""
        self.is_open = False
        if self._reading is not None:
            end(self._reading)
        self._log.close()

    def _receive(self, envelope: Envelope) -> None:
        try:
            self.receive(envelope)
        except Exception:  # noqa: BLE001  # as over Redis
            self._log.exception(
                "message %r could not be delivered here; stored messages are read again", envelope.message_id
            )
            self._rereads.soon()

    def _reread(self) -> None:
        if self.watcher is not None and self.is_open:
            self._reading = start(self.watcher.catch_up(), name="mesa-memory-resync")


_NO_HOLDERS: Mapping[MemoryNode, Holding] = MappingProxyType({})


class Holders:
    """The connections of all ids, by node.

    An id that leaves counts as present until the grace is over, so an id that comes back in
    time has never been away.
    """

    def __init__(self) -> None:
        self.nodes: dict[MemoryNode, None] = {}
        self._by_id: dict[str, dict[MemoryNode, Holding]] = {}
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def page(self, after: str) -> IdPage:
        """Return the first ids after one, ordered by their characters."""
        ids = nsmallest(PAGE, (id for id in self._by_id if id > after))
        return IdPage(tuple(ids), ids[-1] if len(ids) == PAGE else None)

    def of(self, id: str) -> Mapping[MemoryNode, Holding]:
        """Return the nodes that hold `id`, each with its connections."""
        return self._by_id.get(id, _NO_HOLDERS)

    def online(self, id: str) -> int:
        """Return the number of connections of `id` on all nodes."""
        return sum(holding.sockets for holding in self.of(id).values())

    def floor(self, id: str) -> float:
        """Return the lowest sequence that all connections of `id` have; infinity if it has none."""
        return min((holding.floor for holding in self.of(id).values()), default=math.inf)

    def hold(self, node: MemoryNode, id: str, sockets: int) -> Holding:
        """Set the number of connections of `id` on a node."""
        holding = node.held.get(id)
        if holding is None:
            leaving = self._leaving.pop(id, None)
            if leaving is not None:
                leaving.cancel()
            elif id not in self._by_id and node.watcher is not None:
                node.loop.call_soon(node.watcher.came_online, id)
            holding = node.held[id] = self._by_id.setdefault(id, {})[node] = Holding()
        holding.sockets = sockets
        return holding

    def leave(self, node: MemoryNode, id: str) -> None:
        """Remove the connections of `id` on a node; report the id as offline after the grace."""
        if node.held.pop(id, None) is None:
            return
        holders = self._by_id[id]
        del holders[node]
        if not holders:
            del self._by_id[id]
            self._leaving[id] = node.loop.call_later(node.grace, self._go, node, id)

    def _go(self, left: MemoryNode, id: str) -> None:
        """Report an id as offline to the node that it left, or to another node if that one has closed."""
        del self._leaving[id]
        for node in (left, *self.nodes):
            if node in self.nodes and node.watcher is not None:
                node.watcher.went_offline(id)
                return
