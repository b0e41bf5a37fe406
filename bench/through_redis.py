"""Messages to one id, from a dispatcher in another process through Redis."""

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


class DispatchRig(NamedTuple):
    """A peer with its dispatcher, and the port for ticks."""

    rig: Rig
    dispatcher: Child
    ticks: int

    def dispatch(self, messages: int) -> None:
        """Dispatch messages at full speed, and wait until the client has read them."""
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            self.rig.load.tell("read", count=count * wire.FRAME)
            self.dispatcher.ask("dispatch", messages=count, data=wire.data(), type=wire.TYPE)
            self.rig.load.answer()

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
    peers: Sequence[Peer], connections: int, redis: RunningRedis
) -> Iterator[dict[str, DispatchRig]]:
    """Start all peers on one Redis."""
    with ExitStack() as running:
        rigs = {}
        for peer in peers:
            rig = running.enter_context(rigged(peer, redis.url))
            rig.connect(connections)
            command = (*peer.dispatcher, redis.url, str(TARGET))
            dispatcher = Child(f"{peer.name} dispatcher", command, peer.environment)
            running.enter_context(dispatcher)
            rigs[peer.name] = DispatchRig(rig, dispatcher, dispatcher.answer()["port"])
            dispatcher.ask("dispatch", messages=0, data=wire.data(), type=wire.TYPE)
        yield rigs
