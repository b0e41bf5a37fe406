"""Cost of a message to all clients."""

from collections.abc import Sequence

from .cost_table import cost_outcome
from .figures import Outcome, Sample, Target
from .options import Options
from .peer import BARE, NPM, OURS, Peer
from .rig import all_rigged, take_turns

NAME = "fanout"
BATCH = 20_000
"""Deliveries after which all clients must have caught up, so that none falls behind."""


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send messages to all clients, and wait until they have read them."""
    messages, connections = options.messages, options.connections
    batch = max(1, BATCH // connections)
    with all_rigged(peers, connections) as rigs:

        def round_of(peer: str) -> Sample:
            rig = rigs[peer]

            def work() -> None:
                for start in range(0, messages, batch):
                    count = min(batch, messages - start)
                    rig.deliver("everybody", count, count * connections)

            sample = rig.measure(messages * connections, work)
            rig.check_each_received(messages)
            return sample

        series = take_turns(rigs, options.rounds, "message", round_of)
    return cost_outcome(
        NAME,
        f"{messages} messages of 100 bytes to everybody, {connections:,} clients",
        series,
        [
            Target(f"CPU of a delivered message, relative to {BARE}", 1.25, series.ratio(OURS, BARE)),
            Target(f"CPU of a delivered message, relative to {NPM}", 0.6, series.ratio(OURS, NPM)),
        ],
    )
