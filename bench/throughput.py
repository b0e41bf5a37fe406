"""How many messages to one id go through Redis."""

from collections.abc import Sequence

from .cost_table import cost_outcome
from .figures import Outcome, Sample
from .options import Options
from .peer import Peer
from .redis_server import redis_server
from .rig import take_turns
from .through_redis import all_lines

NAME = "redis"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Dispatch as fast as it goes, 64 messages under way."""
    with redis_server() as redis, all_lines(peers, options.connections, redis) as lines:

        def round_of(peer: str) -> Sample:
            line = lines[peer]
            return line.measure(options.singles, lambda: line.dispatch(options.singles), redis)

        series = take_turns(lines, options.rounds, "message", round_of)
    title = f"{options.singles} messages to one of {options.connections} clients through Redis, 64 under way"
    return cost_outcome(NAME, title, series, [])
