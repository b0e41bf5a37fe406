"""Throughput of messages to one id through Redis."""

from collections.abc import Sequence

from .cost_table import cost_outcome
from .figures import Outcome, Sample
from .options import Options
from .peer import Peer
from .redis_server import redis_server
from .rig import take_turns
from .through_redis import all_dispatch_rigs

NAME = "redis"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch at full speed, 64 messages at a time."""
    with redis_server() as redis, all_dispatch_rigs(peers, options.connections, redis) as rigs:

        def round_of(peer: str) -> Sample:
            rig = rigs[peer]
            return rig.measure(options.singles, lambda: rig.dispatch(options.singles), redis)

        series = take_turns(rigs, options.rounds, "message", round_of)
    title = f"{options.singles} messages to one of {options.connections} clients through Redis, 64 under way"
    return cost_outcome(NAME, title, series, [])
