"""Cost of the messages that wait for clients, as they log in."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from . import wire
from .child import Child
from .cost_table import cost_outcome
from .figures import Outcome, Sample, Target
from .options import Options
from .peer import CENTRIFUGO, OURS, Peer, stored
from .redis_server import RunningRedis, redis_server
from .rig import Rig, rigged, take_turns
from .synced.rig import dispatching

NAME = "catchup"
WAITING = 50
"""Messages that wait for each client."""

CLIENTS = 5
"""The share of the clients of other benchmarks that log in, as a divisor."""

FLUSHED = 0.5
"""Seconds within which the server tells Redis of acknowledgements, and sees that clients have gone."""


class CatchupRig(NamedTuple):
    """A server that stores messages, and a dispatcher to clients in turn."""

    rig: Rig
    dispatcher: Child

    def store(self, clients: int) -> None:
        """Store what shall wait for each client."""
        details = {"ids": clients} | ({} if self.rig.peer.calls_server else {"first": 0})
        self.dispatcher.ask(
            "dispatch", messages=WAITING * clients, data=wire.data(), type=wire.TYPE, **details
        )

    def log_in(self, clients: int, waiting: int) -> None:
        """Connect clients, until they have read what waits for them."""
        details = {"port": self.rig.port, "first": 0, "count": clients, "dialect": self.rig.peer.dialect}
        self.rig.load.ask("log_in", messages=waiting * clients, **details)

    def leave(self) -> None:
        """End all connections once everything is acknowledged."""
        self.rig.load.ask("acknowledge")
        time.sleep(FLUSHED)
        self.rig.load.ask("drop")
        time.sleep(FLUSHED)


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Log clients in for whom messages wait, and, to compare, for whom none do."""
    clients = max(10, options.connections // CLIENTS)
    ours = f"{OURS}, sync"
    with redis_server(logs=True) as redis, _all_rigs(peers, redis) as rigs:
        work = {
            name if waiting else f"{name}, none waiting": (rig, waiting)
            for waiting in (WAITING, 0)
            for name, rig in rigs.items()
        }
        for rig in rigs.values():  # clients of Centrifugo must have been there to recover
            rig.log_in(clients, 0)
            rig.leave()

        def round_of(label: str) -> Sample:
            rig, waiting = work[label]
            if waiting:
                rig.store(clients)
            sample = rig.rig.measure(WAITING * clients, lambda: rig.log_in(clients, waiting), redis=redis)
            rig.rig.check_each_received(waiting)
            rig.leave()
            return sample

        series = take_turns(work, options.rounds, "message", round_of)
    costs = [sample.cost() for sample in series.rounds[ours]]
    title = (
        f"{clients} clients log in, {WAITING} messages wait for each; a message, with its share of the login"
    )
    targets = [
        Target.of(f"catch-up, server, µs a message: {ours}", 8.0, costs),
        Target.of(f"catch-up, server, µs a message (stretch): {ours}", 5.0, costs),
    ]
    outcome = cost_outcome(NAME, title, series, targets, {}, ours)
    outcome.notes.append(f"rows with none waiting: the logins alone, divided by {WAITING}")
    return outcome


@contextmanager
def _all_rigs(peers: Sequence[Peer], redis: RunningRedis) -> Iterator[dict[str, CatchupRig]]:
    with ExitStack() as running:
        rigs = {}
        for peer in (stored(peer) for peer in peers if peer.name in (OURS, CENTRIFUGO)):
            rig = running.enter_context(rigged(peer, redis.url, *peer.arguments))
            if peer.calls_server:
                command = (*peer.dispatcher, f"http://127.0.0.1:{rig.port}", "0")
                dispatcher = running.enter_context(Child(f"{peer.name} dispatcher", command))
                dispatcher.answer()
            else:
                dispatcher = running.enter_context(dispatching("many_ids", redis, "bench", sync=True))
            rigs[peer.name] = CatchupRig(rig, dispatcher)
        yield rigs
