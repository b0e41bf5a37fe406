"""Latency of a message to one id through Redis, at a fixed rate."""

import math
from collections.abc import Sequence

from .figures import Figure, Outcome
from .options import Options
from .peer import Peer
from .redis_server import redis_server
from .through_redis import all_dispatch_rigs

NAME = "latency"
PERCENTILES = (50.0, 99.0, 99.9)
WARM_UP = 500


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch on a fixed schedule, however long the replies take."""
    messages = round(options.rate * options.seconds)
    taken: dict[str, list[list[int]]] = {peer.name: [] for peer in peers}
    with redis_server() as redis, all_dispatch_rigs(peers, options.connections, redis) as rigs:
        for rig in rigs.values():
            rig.pace(options.rate, WARM_UP)
        for _ in range(options.rounds):
            for name, rig in rigs.items():
                taken[name].append(rig.pace(options.rate, messages))
    return Outcome(
        name=NAME,
        title=f"{options.rate} messages a second to one of {options.connections:,} clients through Redis",
        header=["peer", *(f"p{part:g} ms" for part in PERCENTILES), "highest", "p50 of rounds"],
        rows=[_row(peer.name, taken[peer.name]) for peer in peers],
        raw={peer: [_milliseconds(each) for each in rounds] for peer, rounds in taken.items()},
        notes=["from the moment when a message was due to the moment when the client has read it"],
    )


def percentile(values: Sequence[int], part: float) -> int:
    """Return the percentile `part` of `values` by nearest rank."""
    return sorted(values)[max(1, math.ceil(len(values) * part / 100)) - 1]


def _milliseconds(latencies: Sequence[int]) -> dict[str, float]:
    parts = {f"p{part:g}": percentile(latencies, part) / 1e6 for part in PERCENTILES}
    return {**parts, "highest": max(latencies) / 1e6, "messages": len(latencies)}


def _row(peer: str, rounds: list[list[int]]) -> list[str]:
    pooled = [latency for each in rounds for latency in each]
    medians = Figure.of(percentile(each, 50) / 1e6 for each in rounds)
    *columns, _count = _milliseconds(pooled).values()
    return [
        peer,
        *(f"{milliseconds:.2f}" for milliseconds in columns),
        f"{medians.lowest:.2f} to {medians.highest:.2f}",
    ]
