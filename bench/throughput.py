"""Cost and throughput of messages to one id through Redis."""

from collections.abc import Sequence

from .cost_table import cost_outcome
from .figures import SERVER, Outcome, Sample, Series, Target
from .options import Options
from .peer import BARE, CENTRIFUGO, NPM, OURS, REDIS_PY, Peer, stored
from .redis_server import redis_server
from .rig import take_turns
from .through_redis import all_dispatch_rigs

NAME, STORED, BLOCKING, BATCHES = "redis", "stored", "blocking", "batches"
DISPATCHER, REDIS = "dispatcher", "redis"

_HAS_BATCHES = (OURS, REDIS_PY, CENTRIFUGO)


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch at full speed, 64 messages at a time."""
    title = f"{options.singles} messages to one of {options.connections} clients through Redis, 64 under way"
    series = _measure(options, peers)
    targets = [
        _target("one id through Redis, server", 1.35, series, OURS, REDIS_PY),
        _target("one id through Redis, server", 1.35, series, OURS, BARE),
        _target("one id through Redis, caller", 1.3, series, OURS, REDIS_PY, DISPATCHER),
        *(
            Target.at_least(
                f"one id through Redis, messages a second: {OURS} relative to {peer}{aim}",
                limit,
                series.speeds(OURS, peer),
            )
            for limit, aim in ((1.5, ""), (2.0, " (stretch)"))
            for peer in (NPM, CENTRIFUGO)
        ),
    ]
    return cost_outcome(NAME, title, series, targets, {}, OURS)


def run_stored(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch messages that are stored, and acknowledged by clients of those that have that."""
    kinds = [stored(peer) for peer in peers if peer.name in (OURS, CENTRIFUGO)]
    series = _measure(options, kinds, logs=True)
    title = f"{options.singles} stored messages to one of {options.connections} clients, Redis with AOF"
    ours, theirs = f"{OURS}, sync", f"{CENTRIFUGO}, history"
    what = "one id with sync, server, Redis and caller together"
    target = _target(what, 1.0, series, ours, theirs, SERVER, REDIS, DISPATCHER)
    return cost_outcome(STORED, title, series, [target], {}, ours)


def run_blocking(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch one message after another, and wait for each."""
    messages = max(1, options.singles // 4)
    series = _measure(options, peers, messages=messages, blocking=True)
    title = f"{messages} messages to one of {options.connections} clients through Redis, one after another"
    target = _target("blocking dispatch, caller", 1.0, series, OURS, REDIS_PY, DISPATCHER)
    return cost_outcome(BLOCKING, title, series, [target], {}, OURS)


def run_batches(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch a hundred messages in one call."""
    able = [peer for peer in peers if peer.name in _HAS_BATCHES]
    series = _measure(options, able, order="batches")
    title = f"{options.singles} messages to one of {options.connections} clients through Redis, 100 in a call"
    target = _target("batch of 100, caller", 1.1, series, OURS, REDIS_PY, DISPATCHER)
    return cost_outcome(BATCHES, title, series, [target], {}, OURS)


def _measure(
    options: Options,
    peers: Sequence[Peer],
    *,
    order: str = "dispatch",
    messages: int = 0,
    logs: bool = False,
    blocking: bool = False,
) -> Series:
    messages = messages or options.singles
    with (
        redis_server(logs=logs) as redis,
        all_dispatch_rigs(peers, options.connections, redis, blocking=blocking) as rigs,
    ):

        def round_of(peer: str) -> Sample:
            rig = rigs[peer]
            return rig.measure(messages, lambda: rig.dispatch(messages, order), redis)

        return take_turns(rigs, options.rounds, "message", round_of)


def _target(what: str, limit: float, series: Series, ours: str, theirs: str, *roles: str) -> Target:
    return Target.of(f"{what}: {ours} relative to {theirs}", limit, series.ratios(ours, theirs, *roles))
