"""A server with or without sync, clients that acknowledge, and a dispatcher."""

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
"""Seconds within which the server sends an acknowledgement on to Redis."""


class Kind(NamedTuple):
    """A variant of the server and its clients; see `bench.load.dialects`."""

    name: str
    sync: bool
    dialect: str


OFF = Kind("sync off", sync=False, dialect="mesa-1")
ON = Kind("sync, 1.x", sync=True, dialect="mesa-1")
ON2 = Kind("sync, wire 2", sync=True, dialect="mesa-2")
KINDS = (OFF, ON, ON2)


class SyncRig(NamedTuple):
    """One kind of server with its dispatcher, ready for work."""

    kind: Kind
    rig: Rig
    dispatcher: Child

    def listen(self, clients: int) -> None:
        """Connect and authenticate clients."""
        details = {"first": 0, "count": clients, "dialect": self.kind.dialect}
        self.rig.load.ask("listen", port=self.rig.port, **details)

    def store(self, messages: int, ids: int) -> None:
        """Dispatch messages to ids that are not connected."""
        for start in range(0, messages, BATCH):
            count = min(BATCH, messages - start)
            dispatch(self.dispatcher, count, first=0, ids=ids)

    def deliver(self, messages: int, ids: int, rate: int) -> None:
        """Dispatch messages at a fixed rate, to clients in turn, and wait until all are acknowledged."""
        self.rig.load.tell("receive", count=messages)
        dispatch(self.dispatcher, messages, first=0, ids=ids, rate=rate)
        self.rig.load.answer()
        self.acknowledge()

    def acknowledge(self) -> None:
        """Wait until the clients have acknowledged everything, and Redis knows."""
        if self.kind.sync:
            self.rig.load.ask("acknowledge")
            time.sleep(FLUSHED)

    def log_in(self, first: int, clients: int, messages: int) -> float:
        """Connect clients that have stored messages; return the seconds until they have read them."""
        details = {"first": first, "count": clients, "dialect": self.kind.dialect}
        answer = self.rig.load.ask("log_in", port=self.rig.port, messages=messages, **details)
        seconds: float = answer["seconds"]
        return seconds

    def drop(self) -> None:
        """Reset all connections once the clients have acknowledged everything."""
        self.acknowledge()
        self.rig.load.ask("drop")


def dispatch(dispatcher: Child, messages: int, **details: int) -> None:
    """Make a dispatcher send messages; see `bench.dispatchers`."""
    dispatcher.ask("dispatch", messages=messages, data=wire.data(), type=wire.TYPE, **details)


@contextmanager
def dispatching(program: str, redis: RunningRedis, namespace: str, *, sync: bool) -> Iterator[Child]:
    """Start a dispatcher, and wait until it is connected.

    Args:
        program: `many_ids` or `blocking`.
        redis: the Redis to dispatch to.
        namespace: that of the recipients.
        sync: whether messages are stored.
    """
    command = (sys.executable, "-m", f"bench.dispatchers.{program}")
    with Child(f"{program} dispatcher", (*command, redis.url, namespace, _word(sync))) as child:
        child.answer()
        dispatch(child, 1, first=10**9, ids=1)
        yield child


@contextmanager
def all_sync_rigs(redis: RunningRedis, kinds: tuple[Kind, ...] = KINDS) -> Iterator[dict[str, SyncRig]]:
    """Start servers of several kinds at one Redis, each in a namespace of its own."""
    with ExitStack() as running:
        rigs = {}
        for number, kind in enumerate(kinds):
            namespace = f"bench-{number}"
            peer = Peer(kind.name, (sys.executable, "-m", "bench.servers.ours"), ())
            rig = running.enter_context(rigged(peer, redis.url, _word(kind.sync), namespace))
            dispatcher = running.enter_context(dispatching("many_ids", redis, namespace, sync=kind.sync))
            rigs[kind.name] = SyncRig(kind, rig, dispatcher)
        yield rigs


def _word(sync: bool) -> str:
    return "sync" if sync else ""
