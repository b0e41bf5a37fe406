"""Memory of a client that has authenticated and is silent."""

from collections.abc import Sequence

from .figures import Figure, Outcome, Target
from .limits import raise_limit
from .options import Options
from .peer import BARE, OURS, Peer
from .rig import rigged

NAME = "memory"
FIRST = 200
"""Clients that connect before the first reading, so that shared memory does not count."""

ABOVE_BARE = 6 * 1024


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Connect clients, in each round to a new process, and measure how much the process has grown."""
    raise_limit(FIRST + options.idle)
    grown: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(options.rounds):
        for peer in peers:
            grown[peer.name].append(_growth(peer, options.idle))
    above = [ours - bare for ours, bare in zip(grown[OURS], grown[BARE], strict=True)]
    return Outcome(
        name=NAME,
        title=f"{options.idle} idle clients that have authenticated, resident memory of the server",
        header=["peer", "KiB/client", "spread", f"above {BARE}"],
        rows=[_row(peer.name, grown) for peer in peers],
        raw={"bytes_per_client": grown},
        targets=[Target(f"bytes of a client above {BARE}", ABOVE_BARE, Figure.of(above).median)],
    )


def _growth(peer: Peer, clients: int) -> float:
    with rigged(peer) as rig:
        rig.connect(FIRST)
        rig.server.ask("collect")
        before = rig.server.resident_bytes
        rig.connect(clients)
        rig.server.ask("collect")
        return (rig.server.resident_bytes - before) / clients


def _row(peer: str, grown: dict[str, list[float]]) -> list[str]:
    figure = Figure.of(grown[peer])
    above = Figure.of(mine - bare for mine, bare in zip(grown[peer], grown[BARE], strict=True)).median
    return [
        peer,
        f"{figure.median / 1024:.1f}",
        f"{figure.lowest / 1024:.1f} to {figure.highest / 1024:.1f}",
        f"{above / 1024:+.1f}",
    ]
