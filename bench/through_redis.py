"""Messages to one id, from a dispatcher in another process through Redis."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from . import wire
from .child import Child
from .figures import Sample
from .peer import Peer
from .redis_server import RunningRedis
from .rig import Rig, rigged

TARGET = 7
"""Number of the client that receives; the others are idle."""

BATCH = 1_000
STORED_BATCH = 7 * 64
"""The same where messages are stored: a client of wire 2 acknowledges 64 at once, and less after a second."""

FLUSHED = 0.3
"""Seconds within which the server sends an acknowledgement on to Redis."""


class DispatchRig(NamedTuple):
    """A peer with its dispatcher, and the port for ticks."""

    rig: Rig
    dispatcher: Child
    ticks: int

    def dispatch(self, messages: int, order: str = "dispatch") -> None:
        """Dispatch messages at full speed, and wait until the client has read and acknowledged them."""
        is_stored = bool(self.rig.peer.arguments)
        batch = STORED_BATCH if is_stored else BATCH
        for start in range(0, messages, batch):
            count = min(batch, messages - start)
            self.rig.load.tell("receive", count=count)
            self.dispatcher.ask(order, messages=count, data=wire.data(), type=wire.TYPE)
            self.rig.load.answer()
            if is_stored:
                self.rig.load.ask("acknowledge")
                time.sleep(FLUSHED)

    def pace(self, rate: int, messages: int) -> list[int]:
        """Dispatch messages at a fixed rate; return the latency of each in nanoseconds."""
        details = {"port": self.ticks, "number": TARGET, "rate": rate, "messages": messages}
        latencies: list[int] = self.rig.load.ask("pace", **details)["latencies"]
        return latencies

    def measure(self, units: int, work: Callable[[], None], redis: RunningRedis) -> Sample:
        """Measure the CPU time of `work` in all processes involved."""
        return self.rig.measure(units, work, dispatcher=self.dispatcher, redis=redis)


@contextmanager
def all_dispatch_rigs(
    peers: Sequence[Peer], connections: int, redis: RunningRedis, *, blocking: bool = False
) -> Iterator[dict[str, DispatchRig]]:
    """Start all peers that have such a dispatcher on one Redis."""
    with ExitStack() as running:
        rigs = {}
        for peer in peers:
            program = peer.blocking if blocking else peer.dispatcher
            if not program:
                continue
            rig = running.enter_context(rigged(peer, redis.url, *peer.arguments))
            rig.listen(connections)
            url = f"http://127.0.0.1:{rig.port}" if peer.calls_server else redis.url
            command = (*program, url, str(TARGET), *peer.arguments)
            dispatcher = Child(f"{peer.name} dispatcher", command, peer.environment)
            running.enter_context(dispatcher)
            rigs[peer.name] = DispatchRig(rig, dispatcher, dispatcher.answer()["port"])
            dispatcher.ask("dispatch", messages=0, data=wire.data(), type=wire.TYPE)
        yield rigs
