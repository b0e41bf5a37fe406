"""The longest turns of a server's event loop while very many clients do what they do at once."""

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from .. import wire
from ..child import Child
from ..errors import Failed
from ..figures import Outcome, Target
from ..limits import raise_limit
from ..options import Options
from ..peer import Peer
from ..redis_server import redis_server

NAME = "turns"

MAX_TURN = 0.050
"""Seconds that a turn may take."""

AT_ONCE = 1000
"""Clients that log in at the same time."""

MESSAGES = 5
"""Messages to everybody, each as soon as all have the one before."""

IDLE = 2
"""Times the seconds of a measurement for which there is no message; each client gets a Ping then."""


class Turn(NamedTuple):
    """The longest turn of a time, in seconds: as others waited, and as the server computed.

    Attributes:
        wall: what a timer was late by.
        cpu: CPU time of the event loop's thread from one look at the clock to the next.
        collector: the longest run of the garbage collector.
    """

    wall: float
    cpu: float
    collector: float


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Let clients log in, rest, get messages to everybody, and be sent away by a signal."""
    missing = raise_limit(options.crowd)
    if missing:
        raise Failed(missing)
    with redis_server() as redis:
        turns = _measured(redis.url, options.crowd, IDLE * options.seconds)
    return Outcome(
        name=NAME,
        title=f"Longest turns of the event loop, {options.crowd:,} clients, Redis, sync",
        header=["while", "a timer is late by, ms", "CPU of a turn, ms", "garbage collector, ms"],
        rows=[[name, *(f"{1000 * seconds:.1f}" for seconds in turn)] for name, turn in turns.items()],
        targets=[
            Target(f"{name}: the longest turn, ms", 1000 * MAX_TURN, 1000 * turn.wall)
            for name, turn in turns.items()
        ],
        raw={name: turn._asdict() for name, turn in turns.items()},
        notes=[f"{AT_ONCE} clients log in at a time, as fast as the server takes them"],
    )


def _measured(redis: str, clients: int, idle: float) -> dict[str, Turn]:
    server_command = (sys.executable, "-m", "bench.turns.server", redis, str(idle / 2))
    load_command = (sys.executable, "-m", "bench.load")
    with Child("server", server_command) as server, Child("load", load_command) as load:
        port = server.answer()["port"]
        turns = {}

        def note(name: str, answer: dict[str, Any]) -> None:
            turns[name] = Turn(**answer)

        server.ask("forget")
        load.ask("connect", port=port, connections=clients, at_once=AT_ONCE)
        note("logins", server.ask("longest"))
        load.ask("drain", seconds=idle)
        note("idle", server.ask("longest"))
        for name, sync in (("*, stored", True), ("*, not stored", False)):
            for _ in range(MESSAGES):
                load.tell("read", count=clients * wire.FRAME)
                server.ask("everybody", data=wire.data(), type=wire.TYPE, sync=sync)
                load.answer()
            note(name, server.ask("longest"))
        load.tell("leave")
        server.terminate()
        note("SIGTERM", server.answer())
        load.answer()
    return turns
