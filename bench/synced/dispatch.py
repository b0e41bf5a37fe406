"""Cost of a dispatch in the dispatcher."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from ..child import Child
from ..cost_table import times
from ..figures import Outcome, Sample, Series
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from ..rig import take_turns
from .rig import dispatch, dispatching

NAME = "dispatch"
NAMESPACE = "bench"
IDS = 1_000
DISPATCHER, REDIS = "dispatcher", "redis"
PROGRAMS = {"async, 64 under way": "many_ids", "blocking, one by one": "blocking"}


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch to online ids, one message to one id."""
    with redis_server(logs=True) as redis, ExitStack() as running:
        command = (sys.executable, "-m", "bench.servers.node", redis.url, NAMESPACE)
        node = running.enter_context(Child("node", command))
        node.answer()
        node.ask("hold", first=0, ids=IDS)
        dispatchers = {
            _label(how, sync): running.enter_context(dispatching(program, redis, NAMESPACE, sync=sync))
            for how, program in PROGRAMS.items()
            for sync in (False, True)
        }

        def round_of(label: str) -> Sample:
            return _timed(redis, dispatchers[label], options.singles)

        series = take_turns(dispatchers, options.rounds, "message", round_of)
    return Outcome(
        name=NAME,
        title=f"{options.singles} messages to one of {IDS} ids each, CPU of the dispatcher",
        header=["dispatcher", "CPU µs/message", "spread", "x off", "Redis CPU µs", "messages/s"],
        rows=[_row(series, how, sync) for how in PROGRAMS for sync in (False, True)],
        raw={label: [sample._asdict() for sample in samples] for label, samples in series.rounds.items()},
    )


def _label(how: str, sync: bool) -> str:
    return f"{how}, {'sync' if sync else 'off'}"


def _timed(redis: RunningRedis, dispatcher: Child, messages: int) -> Sample:
    before, redis_before, began = dispatcher.cpu_seconds, redis.cpu_seconds, time.perf_counter()
    dispatch(dispatcher, messages, first=0, ids=IDS)
    wall = time.perf_counter() - began
    cpu = {DISPATCHER: dispatcher.cpu_seconds - before, REDIS: redis.cpu_seconds - redis_before}
    return Sample(messages, wall, cpu)


def _row(series: Series, how: str, sync: bool) -> list[str]:
    label = _label(how, sync)
    cost = series.cost(label, DISPATCHER)
    return [
        label,
        f"{cost.median:.1f}",
        f"{cost.lowest:.1f} to {cost.highest:.1f}",
        times(series.ratio(label, _label(how, False), DISPATCHER)),
        f"{series.cost(label, REDIS).median:.1f}",
        f"{series.speed(label):,.0f}",
    ]
