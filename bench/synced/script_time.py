"""Cost of a dispatch in Redis: commands, and time of its main thread."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from redis import Redis

from ..child import Child
from ..cost_table import times
from ..figures import Outcome, Sample, Series, Target
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from ..rig import take_turns
from .monitor import commands_during
from .rig import dispatch, dispatching

NAME = "outbox"
NAMESPACE = "bench"
ONLINE, AWAY = 0, 10**6
IDS = 1_000
"""Number of online ids, and of absent ids."""

SCRIPT, REDIS = "script", "redis"
COUNTED = 10


class Case(NamedTuple):
    """One row: the recipients, and the time of the design's prototype on another machine."""

    name: str
    sync: bool
    first: int
    each: int = 1
    commands: int = 1
    prototype: float | None = None
    limit: float | None = None
    """Microseconds of script for each id."""


CASES = (
    Case("one id online, sync off", sync=False, first=ONLINE, limit=13),
    Case("one id online, sync", sync=True, first=ONLINE, prototype=15.5, limit=34),
    Case("one id away, sync off", sync=False, first=AWAY),
    Case("one id away, sync", sync=True, first=AWAY, prototype=10.9),
    Case("200 ids online, sync off", sync=False, first=ONLINE, each=200),
    Case("200 ids online, sync", sync=True, first=ONLINE, each=200, commands=4, limit=12),
    Case("1,000 ids online, sync", sync=True, first=ONLINE, each=1_000, commands=20),
)


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch 64 messages at a time, and read the script time from Redis' statistics."""
    cases = {case.name: case for case in CASES}
    with _ready() as (redis, dispatchers):

        def round_of(name: str) -> Sample:
            case = cases[name]
            messages = max(COUNTED, options.singles // case.each)
            return _timed(redis, dispatchers[case.sync], case, messages)

        series = take_turns(cases, options.rounds, "dispatch", round_of)
        commands = {name: _commands(redis, dispatchers[case.sync], case) for name, case in cases.items()}
    return Outcome(
        name=NAME,
        title="dispatches of 100 bytes, 64 under way, time of Redis' main thread",
        header=[
            *("to", "commands", "script µs", "spread", "x off", "µs/id", "Redis CPU µs"),
            "prototype µs, elsewhere",
        ],
        rows=[_row(series, case, commands[case.name]) for case in CASES],
        raw={name: [sample._asdict() for sample in samples] for name, samples in series.rounds.items()},
        targets=[
            Target(f"commands of a dispatch to {case.name}", case.commands, commands[case.name])
            for case in CASES
            if case.sync
        ]
        + [
            Target.of(f"script of {case.name}, µs an id", case.limit, _each(series, case))
            for case in CASES
            if case.limit
        ],
        notes=[
            "script: Redis' statistics of EVALSHA; CPU: the whole process; without AOF, like the prototype",
            "the prototype ran on another, quiet machine: compare ratios to sync off, not µs",
            "several commands of one dispatch are written one after another",
        ],
    )


@contextmanager
def _ready() -> Iterator[tuple[RunningRedis, dict[bool, Child]]]:
    with (
        redis_server(logs=True) as redis,
        Child("node", (sys.executable, "-m", "bench.servers.node", redis.url, NAMESPACE)) as node,
        dispatching("many_ids", redis, NAMESPACE, sync=True) as stored,
        dispatching("many_ids", redis, NAMESPACE, sync=False) as unstored,
    ):
        node.answer()
        node.ask("hold", first=ONLINE, ids=IDS)
        with Redis.from_url(redis.url) as client:  # set late, as dispatchers warn of a Redis without AOF
            client.config_set("appendonly", "no")
        yield redis, {True: stored, False: unstored}


def _send(dispatcher: Child, case: Case, messages: int) -> None:
    dispatch(dispatcher, messages, first=case.first, ids=IDS, each=case.each)


def _timed(redis: RunningRedis, dispatcher: Child, case: Case, messages: int) -> Sample:
    with Redis.from_url(redis.url) as client:
        client.config_resetstat()
        cpu, began = redis.cpu_seconds, time.perf_counter()
        _send(dispatcher, case, messages)
        wall, cpu = time.perf_counter() - began, redis.cpu_seconds - cpu
        script = client.info("commandstats")["cmdstat_evalsha"]["usec"] / 1e6
    return Sample(messages, wall, {SCRIPT: script, REDIS: cpu})


def _commands(redis: RunningRedis, dispatcher: Child, case: Case) -> float:
    counts = commands_during(redis, lambda: _send(dispatcher, case, COUNTED))
    return counts.total() / COUNTED


def _each(series: Series, case: Case) -> list[float]:
    return [sample.cost(SCRIPT) / case.each for sample in series.rounds[case.name]]


def _row(series: Series, case: Case, commands: float) -> list[str]:
    script = series.cost(case.name, SCRIPT)
    return [
        case.name,
        f"{commands:g}",
        f"{script.median:.1f}",
        f"{script.lowest:.1f} to {script.highest:.1f}",
        times(series.ratio(case.name, f"{case.name} off", SCRIPT)) if case.sync else "",
        f"{script.median / case.each:.2f}",
        f"{series.cost(case.name, REDIS).median:.1f}",
        "" if case.prototype is None else f"{case.prototype:g}",
    ]
