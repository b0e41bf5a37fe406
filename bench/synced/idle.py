"""Memory of the server for a client that has authenticated and is silent, with sync and without."""

from collections.abc import Sequence

from ..figures import Figure, Outcome
from ..limits import raise_limit
from ..memory import FIRST
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from .rig import KINDS, OFF, Kind, SyncRig, all_sync_rigs

NAME = "sync-memory"


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Connect clients, in each round to a new process, and measure how much the process has grown."""
    raise_limit(FIRST + options.idle)
    grown: dict[str, list[tuple[float, float]]] = {kind.name: [] for kind in KINDS}
    for _ in range(options.rounds):
        for kind in KINDS:
            with redis_server(logs=True) as redis:
                grown[kind.name].append(_growth(redis, kind, options.idle))
    return Outcome(
        name=NAME,
        title=f"{options.idle} idle clients that have authenticated, resident memory of a server on Redis",
        header=["kind", "KiB/client", "spread", "above off", "after one message", "above off"],
        rows=[_row(kind.name, grown) for kind in KINDS],
        raw={"bytes_per_client": grown},
    )


def _growth(redis: RunningRedis, kind: Kind, clients: int) -> tuple[float, float]:
    with all_sync_rigs(redis, (kind,)) as rigs:
        rig = rigs[kind.name]
        rig.listen(FIRST)
        before = _resident(rig)
        rig.log_in(FIRST, clients, 0)
        silent = _resident(rig)
        rig.deliver(FIRST + clients, FIRST + clients, rate=2_000)
        return (silent - before) / clients, (_resident(rig) - before) / clients


def _resident(rig: SyncRig) -> int:
    rig.rig.server.ask("collect")
    return rig.rig.server.resident_bytes


def _row(name: str, grown: dict[str, list[tuple[float, float]]]) -> list[str]:
    silent, used = (Figure.of(values) for values in zip(*grown[name], strict=True))
    pairs = list(zip(grown[name], grown[OFF.name], strict=True))
    above = [Figure.of(mine[n] - off[n] for mine, off in pairs).median for n in (0, 1)]
    return [
        name,
        f"{silent.median / 1024:.1f}",
        f"{silent.lowest / 1024:.1f} to {silent.highest / 1024:.1f}",
        f"{above[0] / 1024:+.1f}",
        f"{used.median / 1024:.1f}",
        f"{above[1] / 1024:+.1f}",
    ]
