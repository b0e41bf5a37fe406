"""Cost of a message to all clients, each alone, and many in one turn of the event loop."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from .cost_table import cost_outcome
from .figures import Outcome, Sample, Target
from .options import Options
from .peer import BARE, CENTRIFUGO, CHANNELS, NPM, OURS, PYTHON_SOCKETIO, REDIS_PY, UWS, Peer
from .redis_server import redis_server
from .rig import all_rigged, take_turns

NAME, JOINED = "fanout", "joined"
EACH = 16
"""Messages of one turn in the second benchmark."""

_SINGLE = (PYTHON_SOCKETIO, CHANNELS)

_LIMITS = {
    1: ((BARE, 1.15, ""), (BARE, 1.08, " (stretch)"), (CENTRIFUGO, 1.0, "")),
    EACH: ((UWS, 1.5, ""), (CENTRIFUGO, 0.5, ""), (NPM, 0.08, "")),
}


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send messages to all clients, each as soon as all have read the one before.

    A server that is still writing one message may join it with the next ones; here none can.
    """
    return _measure(options, peers, 1, options.messages)


def run_joined(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send messages to all clients, many in one turn, and the next ones as soon as all have read these."""
    joining = [peer for peer in peers if peer.name not in _SINGLE]
    outcome = _measure(options, joining, EACH, max(1, 4 * options.messages // EACH))
    outcome.notes += [
        f"{peer.name} is left out: it writes each message by itself" for peer in peers if peer.name in _SINGLE
    ]
    return outcome


def _measure(options: Options, peers: Sequence[Peer], each: int, turns: int) -> Outcome:
    connections = options.connections
    peers = [peer for peer in peers if peer.name != REDIS_PY]  # its server is the bare one
    with ExitStack() as running:
        if any(peer.needs_redis for peer in peers):
            url = running.enter_context(redis_server()).url
            peers = [
                replace(peer, server=(*peer.server, url)) if peer.needs_redis else peer for peer in peers
            ]
        rigs = running.enter_context(all_rigged(peers))
        for rig in rigs.values():
            rig.listen(connections)

        def round_of(peer: str) -> Sample:
            rig = rigs[peer]

            def work() -> None:
                for _ in range(turns):
                    rig.broadcast(each, connections)

            sample = rig.measure(turns * each * connections, work)
            rig.check_each_received(turns * each)
            return sample

        series = take_turns(rigs, options.rounds, "message", round_of)
    turn = "one a turn" if each == 1 else f"{each} a turn"
    return cost_outcome(
        NAME if each == 1 else JOINED,
        f"{turns * each} messages of 100 bytes to everybody, {turn}, {connections:,} clients",
        series,
        [
            Target.of(
                f"to all, {turn}, server: {OURS} relative to {peer}{aim}", limit, series.ratios(OURS, peer)
            )
            for peer, limit, aim in _LIMITS[each]
        ],
        {},
        OURS,
    )
