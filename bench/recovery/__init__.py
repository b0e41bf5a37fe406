"""A server is killed, all its clients come back at once, and other work takes half of its core."""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..child import Child
from ..errors import Failed, Skipped
from ..figures import Outcome, Target
from ..limits import raise_limit
from ..options import Options
from ..peer import Peer
from ..redis_server import free_port, redis_server

NAME = "recovery"

MAX_RECOVERY = 30.0
"""Seconds after the core is free in which all clients have to be back."""

GIVE_UP = 45.0
"""Seconds after the core is free when the measurement ends."""

SLACK = 1.0
"""Seconds after its login in which an id may still be reported offline, as the report was on its way."""

LOOK = 0.5
"""Seconds between two looks at the clients."""

_BUSY = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nwhile True: pass"


class Progress(NamedTuple):
    """State of the clients, some seconds after the server was started again.

    Attributes:
        at: the seconds.
        back: clients that have logged in.
        attempts: connections that they have begun.
        refused: attempts that the server answered with 503.
        expired: attempts that the clients gave up.
    """

    at: float
    back: int
    attempts: int
    refused: int
    expired: int


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Kill a server with SIGKILL, start it again on a core that is half taken, and count who is back when."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Skipped("recovery: the server needs a core apart from its clients, and there is only one")
    missing = raise_limit(options.returning)
    if missing:
        raise Failed(missing)
    core, others = cores[0], cores[1:]
    with (
        redis_server() as redis,
        _process("clients", core=others[0]) as clients,
        _process("server", redis.url, "0", core=others[0]) as observer,
    ):
        os.sched_setaffinity(redis.pid, others)
        observer.answer()
        port = free_port()
        with _process("server", redis.url, str(port), core=core) as server:
            server.answer()
            clients.ask("connect", port=port, count=options.returning)
            _watch(clients, options.returning, time.monotonic(), GIVE_UP)
            server.kill()
        killed = time.monotonic()
        with (
            _process("server", redis.url, str(port), core=core) as server,
            Child("other work", (sys.executable, "-c", _BUSY, str(core))) as busy,
        ):
            server.answer()
            began = time.monotonic()
            progress = _watch(clients, options.returning, began, options.busy)
            time.sleep(max(0.0, began + options.busy - time.monotonic()))
            busy.kill()
            if progress[-1].back < options.returning:
                progress += _watch(clients, options.returning, began, options.busy + GIVE_UP)
            time.sleep(max(0.0, killed + options.settle - time.monotonic()))
            facts = server.ask("facts")
            offline = [*facts["offline"], *observer.ask("facts")["offline"]]
            since = clients.ask("since")["since"]
    return _outcome(options, progress, facts, _wrong(since, offline))


def _process(name: str, *arguments: str, core: int) -> Child:
    return Child(name, (sys.executable, "-m", f"bench.recovery.{name}", *arguments, str(core)))


def _watch(clients: Child, count: int, began: float, seconds: float) -> list[Progress]:
    """Look at the clients until all are back, or until the given seconds after the beginning."""
    progress = []
    while True:
        found = clients.ask("progress")
        now = time.monotonic() - began
        progress.append(Progress(now, **found))
        if found["back"] == count or now >= seconds:
            return progress
        time.sleep(max(0.0, min(LOOK, seconds - now)))


def _wrong(since: Mapping[str, float], offline: Sequence[tuple[str, float]]) -> int:
    """Count reports that an id is offline that was connected, and stayed so."""
    return sum(id in since and since[id] + SLACK < at for id, at in offline)


def _outcome(options: Options, progress: Sequence[Progress], facts: Mapping[str, Any], wrong: int) -> Outcome:
    last = progress[-1]
    is_over = last.back == options.returning
    after = max(0.0, last.at - options.busy) if is_over else float("inf")
    shown = [each for n, each in enumerate(progress) if n % _step(progress) == 0 or each is last]
    return Outcome(
        name=NAME,
        title=f"{options.returning} clients return to a server that was killed; "
        f"half of its core is taken for {options.busy:g} s",
        header=["seconds", "clients back", "attempts", "answered 503", "given up"],
        rows=[[f"{each.at:.1f}", *map(str, each[1:])] for each in shown],
        targets=[
            Target("all are back after the core is free, seconds", MAX_RECOVERY, after),
            Target("leases that the server lost", 0, facts["joins"] - 1),
            Target("ids reported offline although they were connected", 0, wrong),
        ],
        notes=[
            f"longest turn of the server's event loop: {1000 * facts['longest']:.0f} ms",
            *(f"{what}: {count}" for what, count in facts["notes"].items()),
        ],
        raw={"progress": [each._asdict() for each in progress], **facts},
    )


def _step(progress: Sequence[Progress]) -> int:
    return max(1, len(progress) // 20)
