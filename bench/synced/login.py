"""Cost of logins with stored messages: one client with many, and many clients with some."""

from collections.abc import Sequence

from ..cost_table import cost_outcome
from ..figures import Figure, Outcome, Sample
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from ..rig import take_turns
from .monitor import commands_during
from .rig import OFF, ON, ON2, SyncRig, all_sync_rigs

NAME, SINGLE = "login", "backlog"
BACKLOG = 100
LOGINS = 20
WAITING = 10


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Connect all clients at once, with stored messages and without, then reset their connections."""
    clients = options.connections
    with redis_server(logs=True) as redis, all_sync_rigs(redis) as rigs:
        work = {
            OFF.name: (rigs[OFF.name], 0),
            **{
                f"{kind.name}, {waiting} waiting": (rigs[kind.name], waiting)
                for kind in (ON, ON2)
                for waiting in (0, WAITING)
            },
        }

        def round_of(label: str) -> Sample:
            rig, waiting = work[label]
            rig.store(waiting * clients, clients)
            sample = rig.rig.measure(clients, lambda: _log_in(rig, clients, waiting), redis=redis)
            rig.drop()
            return sample

        series = take_turns(work, options.rounds, "client", round_of)
        notes = [_scripts(redis, label, *work[label], clients) for label in work if OFF.name != label]
    title = (
        f"{clients} clients connect, authenticate, and read what is stored for each, 100 of them at a time"
    )
    outcome = cost_outcome(NAME, title, series, [], {"off": OFF.name})
    outcome.notes += notes
    return outcome


def run_single(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Connect clients one after another, with many stored messages and without."""
    kinds = (ON, ON2)
    taken: dict[str, list[list[float]]] = {}
    with redis_server(logs=True) as redis, all_sync_rigs(redis, kinds) as rigs:
        for turn in range(options.rounds + 1):
            for name, rig in rigs.items():
                for waiting in (0, BACKLOG):
                    seconds = _logins(rig, waiting)
                    if turn:  # the first round warms up
                        taken.setdefault(f"{name}, {waiting} waiting", []).append(seconds)
    return Outcome(
        name=SINGLE,
        title="one client connects, authenticates, and reads what is stored for it",
        header=["kind", "p50 ms", "spread of rounds", "highest"],
        rows=[_row(name, rounds) for name, rounds in taken.items()],
        raw=taken,
    )


def _log_in(rig: SyncRig, clients: int, waiting: int) -> None:
    rig.log_in(0, clients, waiting * clients)


def _scripts(redis: RunningRedis, label: str, rig: SyncRig, waiting: int, clients: int) -> str:
    rig.store(waiting * clients, clients)

    def work() -> None:
        _log_in(rig, clients, waiting)
        rig.acknowledge()

    counts = commands_during(redis, work)
    rig.drop()
    return ", ".join(
        [
            f"{label}, scripts for each client: {counts['attach'] / clients:.3f} attach",
            f"{counts['ack'] / clients:.3f} ack ({counts['ack'] / max(1, waiting * clients):.4f} a message)",
        ]
    )


def _logins(rig: SyncRig, waiting: int) -> list[float]:
    rig.store(waiting * LOGINS, LOGINS)
    seconds = [rig.log_in(number, 1, waiting) for number in range(LOGINS)]
    rig.drop()
    return seconds


def _row(name: str, rounds: list[list[float]]) -> list[str]:
    pooled = Figure.of(each * 1000 for seconds in rounds for each in seconds)
    medians = Figure.of(Figure.of(seconds).median * 1000 for seconds in rounds)
    spread = f"{medians.lowest:.2f} to {medians.highest:.2f}"
    return [name, f"{pooled.median:.2f}", spread, f"{pooled.highest:.2f}"]
