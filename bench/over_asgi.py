"""Cost of messages and logins over ASGI, in uvicorn, beside those on Mesa's own port."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

from .cost_table import cost_outcome
from .figures import Outcome, Sample, Target
from .limits import raise_limit
from .options import Options
from .peer import OURS, Peer
from .rig import Rig, all_rigged, rigged, take_turns

NAME = "asgi"
OVER_ASGI = f"{OURS} over uvicorn"
LOGINS = 200
DEARER = 2.5
"""Times that a message may cost over ASGI."""


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send to all clients and to single ones, and connect clients, over ASGI and natively."""
    ours = next(peer for peer in peers if peer.name == OURS)
    both = [ours, Peer(OVER_ASGI, (sys.executable, "-m", "bench.servers.over_asgi"), ())]
    connections = min(options.connections, 300)
    raise_limit(connections + LOGINS)
    with ExitStack() as running:
        rigs = running.enter_context(all_rigged(both, connections))
        works: dict[str, Callable[[], Sample]] = {}
        for what, work in _WORKS.items():
            for peer in both:
                works[f"{peer.name}, {what}"] = partial(work, rigs[peer.name], connections)
        for peer in both:
            works[f"{peer.name}, login"] = partial(_log_in, peer)
        series = take_turns(works, options.rounds, "message or login", lambda label: works[label]())
    ratio = series.ratio(f"{OVER_ASGI}, {EVERYBODY}", f"{OURS}, {EVERYBODY}")
    return cost_outcome(
        NAME,
        f"messages of 100 bytes to all of {connections} clients and to single ones, and logins",
        series,
        [Target("CPU of a delivered message over ASGI, relative to Mesa's own port", DEARER, ratio)],
        {},
    )


def _send_everybody(rig: Rig, connections: int) -> Sample:
    messages = max(1, 20_000 // connections)
    deliveries = messages * connections
    return rig.measure(deliveries, lambda: rig.deliver("everybody", messages, deliveries))


def _send_single(rig: Rig, connections: int) -> Sample:
    messages = 3000
    return rig.measure(messages, lambda: rig.deliver("single", messages, messages, connections=connections))


def _log_in(peer: Peer) -> Sample:
    """Connect clients to a new server, of which the first ones do not count."""
    with rigged(peer) as rig:
        rig.connect(10)
        return rig.measure(LOGINS, lambda: rig.connect(LOGINS))


EVERYBODY = "to everybody"

_WORKS: Mapping[str, Callable[[Rig, int], Sample]] = {EVERYBODY: _send_everybody, "to one": _send_single}
