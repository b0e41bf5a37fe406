"""Cost of many clients that connect at once: handshake, HELLO, authentication, acknowledgement."""

from collections.abc import Sequence

from .cost_table import cost_outcome
from .figures import Outcome, Sample
from .options import Options
from .peer import Peer
from .rig import all_rigged, take_turns

NAME = "storm"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Connect all clients, then reset their connections, once a round."""

    with all_rigged(peers, 0) as rigs:

        def round_of(peer: str) -> Sample:
            rig = rigs[peer]
            sample = rig.measure(options.connections, lambda: rig.connect(options.connections))
            rig.load.ask("drop")
            return sample

        series = take_turns(rigs, options.rounds, "client", round_of)
    title = f"{options.connections} clients connect and authenticate, 100 of them at a time"
    return cost_outcome(NAME, title, series, [])
