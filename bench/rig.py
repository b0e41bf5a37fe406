"""A running peer: its server, its load generator, and the CPU time of both."""

import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

from . import wire
from .child import Child
from .errors import Failed
from .figures import LOAD, SERVER, Sample, Series
from .peer import OTHERS, Peer


class Costly(Protocol):
    """A process whose CPU time can be read."""

    @property
    def cpu_seconds(self) -> float: ...


class Rig(NamedTuple):
    """One peer, ready for work."""

    peer: Peer
    server: Child
    load: Child
    port: int

    def connect(self, connections: int) -> None:
        """Connect and authenticate clients."""
        self.load.ask("connect", port=self.port, connections=connections)

    def listen(self, connections: int) -> None:
        """Connect clients, in the dialect of the peer, whose messages are counted."""
        details = {"first": 0, "count": connections, "dialect": self.peer.dialect}
        self.load.ask("listen", port=self.port, **details)

    def broadcast(self, messages: int, connections: int) -> None:
        """Make the server send messages to all in one turn, and wait until every client has them."""
        self.load.tell("receive", count=messages * connections)
        self.server.ask("everybody", messages=messages, each=messages, data=wire.data(), type=wire.TYPE)
        self.load.answer()

    def deliver(self, order: str, messages: int, deliveries: int, **details: Any) -> None:
        """Make the server send, and wait until every client has read what it was sent."""
        self.load.tell("read", count=deliveries * wire.FRAME)
        self.server.ask(order, messages=messages, data=wire.data(), type=wire.TYPE, **details)
        self.load.answer()

    def measure(self, units: int, work: Callable[[], None], **others: Costly) -> Sample:
        """Do `work`, and measure the CPU time of the server, the load generator and others."""
        processes: Mapping[str, Costly] = {SERVER: self.server, LOAD: self.load, **others}
        before = {role: process.cpu_seconds for role, process in processes.items()}
        began = time.perf_counter()
        work()
        wall = time.perf_counter() - began
        return Sample(
            units, wall, {role: process.cpu_seconds - before[role] for role, process in processes.items()}
        )

    def check_each_received(self, messages: int) -> None:
        """Raise `Failed` unless every client has received every message."""
        counts = self.load.ask("received")
        if counts != {"fewest": messages, "most": messages}:
            raise Failed(f"{self.peer.name}: expected {messages} messages at each client, got {counts}")


@contextmanager
def rigged(peer: Peer, *arguments: str) -> Iterator[Rig]:
    """Start a peer's server and a load generator, and end them."""
    load = (sys.executable, "-m", "bench.load")
    with (
        Child(f"{peer.name} server", (*peer.server, *arguments), peer.environment) as server,
        Child(f"load of {peer.name}", load) as generator,
    ):
        started = server.answer()
        server.measured = started.get("pid", server.measured)
        yield Rig(peer, server, generator, started["port"])


@contextmanager
def all_rigged(peers: Sequence[Peer], connections: int = 0) -> Iterator[dict[str, Rig]]:
    """Start all peers, each with its clients; peers are idle until it is their turn."""
    with ExitStack() as running:
        rigs = {peer.name: running.enter_context(rigged(peer)) for peer in peers}
        for rig in rigs.values():
            if connections:
                rig.connect(connections)
        yield rigs


def take_turns(names: Collection[str], rounds: int, unit: str, work: Callable[[str], Sample]) -> Series:
    """Let every peer work once a round, so that other load of the machine affects all alike.

    The first round warms up caches and compilers; its samples are dropped. A peer of others that fails
    is dropped, too.
    """
    series = Series(unit)
    for turn in range(rounds + 1):
        for name in [name for name in names if name not in series.failures]:
            try:
                sample = work(name)
            except Failed as error:
                if name.partition(",")[0] not in OTHERS:
                    raise
                series.fail(name, str(error))
            else:
                if turn:
                    series.add(name, sample)
    return series
