"""Latency of a message to one id through Redis, at a fixed rate."""

import math
from collections.abc import Sequence

from .cost_table import spread
from .errors import Failed
from .figures import Figure, Outcome, Target
from .options import Options
from .peer import BARE, CENTRIFUGO, CHANNELS, OURS, REDIS_PY, Peer, stored
from .redis_server import redis_server
from .through_redis import all_dispatch_rigs

NAME, STORED = "latency", "latency-stored"
PERCENTILES = (50.0, 99.0, 99.9)
WARM_UP = 500

_LEFT_OUT = {
    REDIS_PY: f"its server is the one of {BARE}",
    CHANNELS: "a message takes a millisecond of CPU time, so at this rate its latency is that of a queue",
}


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch on a fixed schedule, however long the replies take."""
    measured = [peer for peer in peers if peer.dispatcher and peer.name not in _LEFT_OUT]
    outcome = _measure(options, measured, OURS, CENTRIFUGO)
    outcome.notes += [
        f"{peer.name} is left out: {_LEFT_OUT[peer.name]}" for peer in peers if peer.name in _LEFT_OUT
    ]
    return outcome


def run_stored(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch messages that are stored."""
    kinds = [stored(peer) for peer in peers if peer.name in (OURS, CENTRIFUGO)]
    return _measure(options, kinds, f"{OURS}, sync", f"{CENTRIFUGO}, history", logs=True)


def _measure(
    options: Options, peers: Sequence[Peer], ours: str, theirs: str, *, logs: bool = False
) -> Outcome:
    messages = round(options.rate * options.seconds)
    taken: dict[str, list[list[int]]] = {peer.name: [] for peer in peers}
    with redis_server(logs=logs) as redis, all_dispatch_rigs(peers, options.connections, redis) as rigs:
        failures: dict[str, str] = {}
        for rig in rigs.values():
            rig.pace(options.rate, WARM_UP)
        for _ in range(options.rounds):
            for name in [name for name in rigs if name not in failures]:
                try:
                    taken[name].append(rigs[name].pace(options.rate, messages))
                except Failed as error:
                    if name == ours:
                        raise
                    failures[name] = str(error)
    taken = {name: rounds for name, rounds in taken.items() if name not in failures}
    what = "stored messages" if logs else "messages"
    return Outcome(
        name=STORED if logs else NAME,
        title=f"{options.rate} {what} a second to one of {options.connections:,} clients through Redis",
        header=[
            "peer",
            *(f"p{part:g} ms" for part in PERCENTILES),
            "highest",
            "p50 of rounds",
            "p50: ours / it",
        ],
        rows=[_row(name, rounds, taken[ours]) for name, rounds in taken.items()],
        raw={peer: [_milliseconds(each) for each in rounds] for peer, rounds in taken.items()},
        targets=[
            Target.of(
                f"{options.rate} {what} a second, p{part:g}: {ours} relative to {theirs}",
                limit,
                _ratios(taken[ours], taken.get(theirs, []), part),
            )
            for part, limit in ((50, 1.15), (99, 1.0))
        ],
        notes=[
            "from the moment when a message was due to the moment when the client has read it",
            *(f"{name} failed: {why}" for name, why in failures.items()),
        ],
    )


def percentile(values: Sequence[int], part: float) -> int:
    """Return the percentile `part` of `values` by nearest rank."""
    return sorted(values)[max(1, math.ceil(len(values) * part / 100)) - 1]


def _ratios(mine: list[list[int]], theirs: list[list[int]], part: float) -> list[float]:
    return [percentile(a, part) / percentile(b, part) for a, b in zip(mine, theirs, strict=False)]


def _milliseconds(latencies: Sequence[int]) -> dict[str, float]:
    parts = {f"p{part:g}": percentile(latencies, part) / 1e6 for part in PERCENTILES}
    return {**parts, "highest": max(latencies) / 1e6, "messages": len(latencies)}


def _row(peer: str, rounds: list[list[int]], ours: list[list[int]]) -> list[str]:
    pooled = [latency for each in rounds for latency in each]
    medians = Figure.of(percentile(each, 50) / 1e6 for each in rounds)
    *columns, _count = _milliseconds(pooled).values()
    return [
        peer,
        *(f"{milliseconds:.2f}" for milliseconds in columns),
        f"{medians.lowest:.2f} to {medians.highest:.2f}",
        spread(_ratios(ours, rounds, 50)),
    ]
