"""Hostile clients beside a neighbour: what its requests wait, and what the server's memory grows by."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mesa_ws import Limits

from ..certificate import make_certificate
from ..child import Child
from ..figures import Outcome, Target
from ..limits import raise_limit
from ..options import Options
from ..peer import Peer
from ..redis_server import redis_server

NAME = "attacks"

MAX_WAIT = 0.050
"""Seconds that the 99th percentile of the neighbour's requests may wait."""

MAX_GROWTH = 64 * 1024 * 1024
"""Bytes that the server's memory may grow by, unless the attack says otherwise."""

NEEDS = 8_000
"""Descriptors of the attack with most connections, at both ends."""


class Attack(NamedTuple):
    """What hostile clients do.

    Attributes:
        is_sent_to: whether the server sends to everybody, and to the hostile clients by their id.
        max_growth: bytes that the server's memory may grow by.
    """

    name: str
    what: str
    connections: int
    with_portals: bool = False
    is_sent_to: bool = False
    max_growth: int = MAX_GROWTH


ATTACKS = (
    Attack("messages", "one client sends short messages without a pause", 1),
    Attack("probes", "one client sends short frames that the server answers at once", 1),
    Attack("pings", "one client sends Pings", 1),
    Attack("fragments", "one client sends messages in fragments of one byte", 1),
    Attack("nested", "one client sends messages of 1 MiB that are 25 MiB as objects", 1),
    Attack("unfinished", "clients send the first 300 KiB of a message, each in fragments", 3_600),
    Attack(
        "unread",
        "clients that never read are sent 20 messages of 4 KiB a second, half of them to everybody",
        1_000,
        is_sent_to=True,
        max_growth=Limits().max_node_buffer,
    ),
    Attack("backlog", "anonymous clients send messages to portals", 70, with_portals=True),
)


class Wait(NamedTuple):
    """What the neighbour's requests waited, in seconds, and the growth of the server's memory in bytes."""

    median: float
    p99: float
    longest: float
    growth: int


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Let each attack run beside a neighbour, without and with TLS."""
    missing = raise_limit(NEEDS)
    attacks = [attack for attack in ATTACKS if not missing or attack.connections < NEEDS // 4]
    rows: list[Sequence[str]] = []
    targets, raw = [], {}
    with TemporaryDirectory() as folder, redis_server() as redis:
        certificate = make_certificate(Path(folder) / "certificate.pem")
        for attack in attacks:
            for tls in ("", str(certificate)):
                label = f"{attack.name}, TLS" if tls else attack.name
                quiet, loud = _beside(attack, tls, redis.url if attack.with_portals else "", options.seconds)
                rows.append(
                    [
                        label,
                        *(f"{1000 * s:.1f}" for s in (quiet.p99, *loud[:3])),
                        f"{loud.growth / 2**20:.1f}",
                    ]
                )
                targets.append(Target(f"{label}: the neighbour waits, ms", 1000 * MAX_WAIT, 1000 * loud.p99))
                most = attack.max_growth / 2**20
                targets.append(Target(f"{label}: memory grows, MiB", most, loud.growth / 2**20))
                raw[label] = {"quiet": quiet._asdict(), "attacked": loud._asdict()}
    return Outcome(
        name=NAME,
        title="A neighbour's requests, one after another, while hostile clients are at work",
        header=["attack", "quiet p99, ms", "median, ms", "p99, ms", "longest, ms", "memory, MiB"],
        rows=rows,
        targets=targets,
        raw=raw,
        notes=[*(f"{attack.name}: {attack.what}" for attack in attacks), *([missing] if missing else [])],
    )


def _beside(attack: Attack, tls: str, redis: str, seconds: float) -> tuple[Wait, Wait]:
    with (
        _process("server", redis, f"{attack.name}{'-tls' if tls else ''}", tls) as server,
        _process("neighbour") as neighbour,
        _process("attacker") as attacker,
    ):
        port = server.answer()["port"]
        neighbour.ask("connect", port=port, tls=bool(tls))
        quiet = _measured(server, neighbour, seconds)
        attacker.ask("begin", attack=attack.name, port=port, tls=bool(tls), connections=attack.connections)
        if attack.is_sent_to:
            server.ask("send", connections=attack.connections)
        loud = _measured(server, neighbour, seconds)
    return quiet, loud


def _measured(server: Child, neighbour: Child, seconds: float) -> Wait:
    before = most = server.resident_bytes
    neighbour.tell("measure", seconds=seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        most = max(most, server.resident_bytes)
    found: Mapping[str, Any] = neighbour.answer()
    return Wait(found["median"], found["p99"], found["longest"], most - before)


@contextmanager
def _process(name: str, *arguments: str) -> Iterator[Child]:
    with Child(name, (sys.executable, "-m", f"bench.attacks.{name}", *arguments)) as child:
        yield child
