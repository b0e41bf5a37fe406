"""The longest script of a dispatch, and how long others wait for Redis while it goes on."""

import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from redis import Redis

from ..bare_redis import address
from ..child import Child
from ..figures import Outcome, Target
from ..latency import percentile
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server

NAME = "longest"
NAMESPACE = "bench"
RECIPIENTS = (1, 200, 1_000, 10_000, 100_000, 300_000)
SIZES = (100, 10 << 10, 100 << 10, 1 << 20)
MAX_STORED = 1 << 30
"""Bytes that one dispatch stores at most; larger ones are not stored."""

ONLINE = 2_000
"""Recipients that a node holds; the others are away."""

PART = 8
"""Each kind of message is dispatched for this part of the seconds of a round, at least once."""

PAUSE = 0.001
"""Seconds between two PINGs."""

MAX_SCRIPT, MAX_SCRIPT_LARGE, MAX_PING = 5.0, 10.0, 10.0
"""Milliseconds; the second for bodies of a mebibyte."""

_SLOW = 200
"""Microseconds; what takes less is not looked at."""


class Found(NamedTuple):
    """What one kind of message took.

    Attributes:
        script: milliseconds of the longest script.
        ping: the 99th percentile of PINGs, in milliseconds.
        dispatches: how many there were.
        failure: the error of the dispatcher, if it raised one.
    """

    script: float
    ping: float
    dispatches: int
    failure: str


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch messages of many sizes to many recipients, while another client sends PING."""
    found = {}
    largest = RECIPIENTS[-1] if options.rounds > 1 else RECIPIENTS[2]
    with (
        redis_server() as redis,
        Child("node", (sys.executable, "-m", "bench.servers.node", redis.url, NAMESPACE)) as node,
        Child("large", (sys.executable, "-m", "bench.dispatchers.large", redis.url, NAMESPACE)) as dispatcher,
    ):
        node.answer()
        dispatcher.answer()
        node.ask("hold", first=0, ids=ONLINE)
        for size in SIZES:
            for ids in RECIPIENTS:
                if ids <= largest:
                    stored = ids * size <= MAX_STORED
                    kind = {"ids": ids, "size": size, "sync": stored, "seconds": options.seconds / PART}
                    found[ids, size, stored] = _measure(redis, dispatcher, **kind)
    return Outcome(
        name=NAME,
        title="dispatches of many sizes to many ids: the longest script, and PINGs of another client",
        header=["ids", "bytes", "stored", "dispatches", "longest script ms", "PING p99 ms", "failure"],
        rows=[_row(*kind, each) for kind, each in found.items()],
        raw={f"{ids} x {size}": each._asdict() for (ids, size, _), each in found.items()},
        targets=_targets(found),
        notes=[
            f"the first {ONLINE:,} ids are online; scripts below {_SLOW} µs are shown as 0; without AOF",
            "Redis measures scripts by the clock on the wall, so other work of the machine counts",
        ],
    )


def _measure(redis: RunningRedis, dispatcher: Child, **kind: Any) -> Found:
    with Redis.from_url(redis.url) as client:
        client.config_set("slowlog-log-slower-than", _SLOW)
        client.config_set("slowlog-max-len", 10_000)
        client.slowlog_reset()
        with _pinging(redis) as pings:
            answer = dispatcher.ask("dispatch", **kind)
        scripts = [each["duration"] for each in client.slowlog_get(10_000) if b"EVALSHA" in each["command"]]
        for keys in _batches(client):
            client.unlink(*keys)
    longest, ping = max(scripts, default=0) / 1e3, percentile(pings, 99) / 1e6
    return Found(longest, ping, answer["dispatches"], answer["failure"])


def _batches(client: Any) -> Iterator[list[bytes]]:
    """Yield the keys of outboxes and positions, but not those of presence."""
    keys: list[bytes] = []
    for key in client.scan_iter(count=10_000):
        if b":o:" in key or b":m:" in key:
            keys.append(key)
        if len(keys) >= 1_000:
            yield keys
            keys = []
    if keys:
        yield keys


@contextmanager
def _pinging(redis: RunningRedis) -> Iterator[list[int]]:
    """Send PINGs until the block ends; their times are nanoseconds."""
    taken: list[int] = []
    is_over = threading.Event()

    def ping() -> None:
        with socket.create_connection(address(redis.url)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not is_over.is_set() or not taken:
                began = time.perf_counter_ns()
                connection.sendall(b"PING\r\n")
                connection.recv(64)
                taken.append(time.perf_counter_ns() - began)
                time.sleep(PAUSE)

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield taken
    finally:
        is_over.set()
        thread.join()


def _row(ids: int, size: int, stored: bool, found: Found) -> list[str]:
    shown = (f"{found.script:.1f}", f"{found.ping:.1f}", found.failure)
    return [f"{ids:,}", f"{size:,}", "yes" if stored else "no", str(found.dispatches), *shown]


def _targets(found: dict[tuple[int, int, bool], Found]) -> list[Target]:
    small = [each for (_, size, _), each in found.items() if size < 1 << 20]
    large = [each for (_, size, _), each in found.items() if size >= 1 << 20]
    return [
        Target("longest script, 100 B to 100 KiB, ms", MAX_SCRIPT, max(each.script for each in small)),
        Target("longest script, 1 MiB, ms", MAX_SCRIPT_LARGE, max(each.script for each in large)),
        Target("PING p99 in all of these rows, ms", MAX_PING, max(each.ping for each in found.values())),
        Target("dispatches that failed", 0, sum(bool(each.failure) for each in found.values())),
    ]
