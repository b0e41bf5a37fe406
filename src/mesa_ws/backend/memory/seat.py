"""A node, as the others see it."""

import asyncio
from dataclasses import dataclass, field

from ...envelope import Envelope
from ..base import Receive, Watcher


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
