"""A server with or without sync, clients that prove what they have, and a dispatcher."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from .. import wire
from ..child import Child
from ..peer import Peer
from ..redis_server import RunningRedis
from ..rig import Rig, rigged

BATCH = 1_000
FLUSHED = 0.5
"""Seconds after the last proof in which the server sends it to Redis."""


class Kind(NamedTuple):
    """What is measured beside what."""

    name: str
    sync: bool
    is_wire2: bool


OFF = Kind("sync off", sync=False, is_wire2=False)
ON = Kind("sync, 1.x", sync=True, is_wire2=False)
ON2 = Kind("sync, wire 2", sync=True, is_wire2=True)
KINDS = (OFF, ON, ON2)


class Party(NamedTuple):
    """One kind, ready for work."""

    kind: Kind
    rig: Rig
    dispatcher: Child

    def listen(self, clients: int) -> None:
        """Let clients in, and have them authenticate."""
        details = {"first": 0, "count": clients, "is_wire2": self.kind.is_wire2}
        self.rig.load.ask("listen", port=self.rig.port, **details)

    def store(self, messages: int, ids: int) -> None:
        """Have messages dispatched to ids that have no client yet."""
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            dispatch(self.dispatcher, count, first=0, ids=ids)

    def deliver(self, messages: int, ids: int, rate: int) -> None:
        """Have messages dispatched at a fixed rate, to clients in turn, until all is read and proven."""
        self.rig.load.tell("hear", count=messages)
        dispatch(self.dispatcher, messages, first=0, ids=ids, rate=rate)
        self.rig.load.hear()
        self.prove()

    def prove(self) -> None:
        """Wait until the clients have proven all, and Redis knows."""
        if self.kind.sync:
            self.rig.load.ask("prove")
            time.sleep(FLUSHED)

    def log_in(self, first: int, clients: int, messages: int) -> float:
        """Let clients in for whom messages wait; return the seconds until they have them."""
        details = {"first": first, "count": clients, "is_wire2": self.kind.is_wire2}
        answer = self.rig.load.ask("log_in", port=self.rig.port, messages=messages, **details)
        seconds: float = answer["seconds"]
        return seconds

    def drop(self) -> None:
        """Cut all clients off, once they have proven what they have."""
        self.prove()
        self.rig.load.ask("drop")


def dispatch(dispatcher: Child, messages: int, **details: int) -> None:
    """Have messages dispatched; see `bench.dispatchers`."""
    dispatcher.ask("dispatch", messages=messages, data=wire.data(), type=wire.TYPE, **details)


@contextmanager
def dispatching(program: str, redis: RunningRedis, namespace: str, *, sync: bool) -> Iterator[Child]:
    """Start a dispatcher, and let it connect.

    Args:
        program: `spread` or `waiting`.
        redis: where it dispatches.
        namespace: of whom.
        sync: whether messages are stored.
    """
    command = (sys.executable, "-m", f"bench.dispatchers.{program}")
    with Child(f"{program} dispatcher", (*command, redis.url, namespace, _word(sync))) as child:
        child.hear()
        dispatch(child, 1, first=10**9, ids=1)
        yield child


@contextmanager
def all_parties(redis: RunningRedis, kinds: tuple[Kind, ...] = KINDS) -> Iterator[dict[str, Party]]:
    """Start servers of several kinds at one Redis, each in a namespace of its own."""
    with ExitStack() as running:
        parties = {}
        for number, kind in enumerate(kinds):
            namespace = f"bench-{number}"
            peer = Peer(kind.name, (sys.executable, "-m", "bench.servers.ours"), ())
            rig = running.enter_context(rigged(peer, redis.url, _word(kind.sync), namespace))
            dispatcher = running.enter_context(dispatching("spread", redis, namespace, sync=kind.sync))
            parties[kind.name] = Party(kind, rig, dispatcher)
        yield parties


def _word(sync: bool) -> str:
    return "sync" if sync else ""
