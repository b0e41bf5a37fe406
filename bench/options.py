"""Amount of work of a run."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes of the benchmarks.

    Attributes:
        rounds: repetitions by every peer; peers take turns.
        connections: clients of each peer.
        many: clients of each peer in the second half of `one`.
        messages: messages to all clients in each round of `fanout`.
        singles: messages to one client in each round of `one` and `redis`.
        rate: messages a second in the latency part of `redis`.
        seconds: length of each round of the latency part.
        idle: clients whose memory is measured.
        crowd: clients of `turns`.
        waiting: absent ids that messages are stored for.
        returning: clients that come back at once in `recovery`.
        busy: seconds for which other work takes half of the server's core there.
        settle: seconds after the kill in which a cluster has reported the ids that stayed away: a lease, and
            the grace.
        peers: names of the peers of others; see `bench.peer`.
    """

    rounds: int = 5
    connections: int = 1_000
    many: int = 10_000
    messages: int = 120
    singles: int = 5_000
    rate: int = 1_000
    seconds: float = 4.0
    idle: int = 2_000
    crowd: int = 19_000
    waiting: int = 20_000
    returning: int = 15_000
    busy: float = 25.0
    settle: float = 25.0
    peers: tuple[str, ...] = ()
    results: Path = Path(__file__).parent / "results"


FULL = Options()
QUICK = Options(
    rounds=2,
    connections=200,
    many=2_000,
    messages=50,
    singles=1_000,
    seconds=1.0,
    idle=500,
    crowd=2_000,
    waiting=2_000,
    returning=2_000,
    busy=5.0,
    settle=0.0,
)
