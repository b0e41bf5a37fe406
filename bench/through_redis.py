"""Messages to one id that a dispatcher in another process sends through Redis."""

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
"""The client that receives; the others are only there."""

BATCH = 1_000


class Line(NamedTuple):
    """A peer with its dispatcher, and where that takes ticks."""

    rig: Rig
    dispatcher: Child
    ticks: int

    def dispatch(self, messages: int) -> None:
        """Have messages dispatched as fast as it goes, and wait until the client has read them."""
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            self.rig.load.tell("read", count=count * wire.FRAME)
            self.dispatcher.ask("dispatch", messages=count, data=wire.data(), type=wire.TYPE)
            self.rig.load.hear()

    def pace(self, rate: int, messages: int) -> list[int]:
        """Have messages dispatched at a fixed rate; return how many nanoseconds each took."""
        details = {"port": self.ticks, "number": TARGET, "rate": rate, "messages": messages}
        latencies: list[int] = self.rig.load.ask("pace", **details)["latencies"]
        return latencies

    def measure(self, units: int, work: Callable[[], None], redis: RunningRedis) -> Sample:
        """What `work` costs all processes on the way."""
        return self.rig.measure(units, work, dispatcher=self.dispatcher, redis=redis)


@contextmanager
def all_lines(peers: Sequence[Peer], connections: int, redis: RunningRedis) -> Iterator[dict[str, Line]]:
    """Start all peers on one Redis."""
    with ExitStack() as running:
        lines = {}
        for peer in peers:
            rig = running.enter_context(rigged(peer, redis.url))
            rig.connect(connections)
            command = (*peer.dispatcher, redis.url, str(TARGET))
            dispatcher = Child(f"{peer.name} dispatcher", command, peer.environment)
            running.enter_context(dispatcher)
            lines[peer.name] = Line(rig, dispatcher, dispatcher.hear()["port"])
            dispatcher.ask("dispatch", messages=0, data=wire.data(), type=wire.TYPE)
        yield lines
