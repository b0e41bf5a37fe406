"""Clients that come back and find messages: one with many, and many with some."""

from collections.abc import Sequence

from ..cost_table import cost_outcome
from ..figures import Figure, Outcome, Sample
from ..options import Options
from ..peer import Peer
from ..redis_server import RunningRedis, redis_server
from ..rig import take_turns
from .monitor import commands_during
from .party import OFF, ON, ON2, Party, all_parties

NAME, SINGLE = "login", "backlog"
BACKLOG = 100
LOGINS = 20
WAITING = 10


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Let all clients in at once, with messages waiting and without, then cut them off."""
    clients = options.connections
    with redis_server(logs=True) as redis, all_parties(redis) as parties:
        work = {
            OFF.name: (parties[OFF.name], 0),
            **{
                f"{kind.name}, {waiting} waiting": (parties[kind.name], waiting)
                for kind in (ON, ON2)
                for waiting in (0, WAITING)
            },
        }

        def round_of(label: str) -> Sample:
            party, waiting = work[label]
            party.store(waiting * clients, clients)
            sample = party.rig.measure(clients, lambda: _let_in(party, clients, waiting), redis=redis)
            party.drop()
            return sample

        series = take_turns(work, options.rounds, "client", round_of)
        notes = [_scripts(redis, label, *work[label], clients) for label in work if OFF.name != label]
    title = f"{clients} clients connect, authenticate, and read what waits for each, 100 of them at a time"
    outcome = cost_outcome(NAME, title, series, [], {"off": OFF.name})
    outcome.notes += notes
    return outcome


def run_single(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Let clients in one after another, with many messages waiting and without."""
    kinds = (ON, ON2)
    taken: dict[str, list[list[float]]] = {}
    with redis_server(logs=True) as redis, all_parties(redis, kinds) as parties:
        for turn in range(options.rounds + 1):
            for name, party in parties.items():
                for waiting in (0, BACKLOG):
                    seconds = _logins(party, waiting)
                    if turn:  # the first round warms up
                        taken.setdefault(f"{name}, {waiting} waiting", []).append(seconds)
    return Outcome(
        name=SINGLE,
        title="one client connects, authenticates, and reads what waits for it",
        header=["kind", "p50 ms", "spread of rounds", "highest"],
        rows=[_row(name, rounds) for name, rounds in taken.items()],
        raw=taken,
    )


def _let_in(party: Party, clients: int, waiting: int) -> None:
    party.log_in(0, clients, waiting * clients)


def _scripts(redis: RunningRedis, label: str, party: Party, waiting: int, clients: int) -> str:
    party.store(waiting * clients, clients)

    def work() -> None:
        _let_in(party, clients, waiting)
        party.prove()

    counts = commands_during(redis, work)
    party.drop()
    return ", ".join(
        [
            f"{label}, scripts for each client: {counts['attach'] / clients:.3f} attach",
            f"{counts['ack'] / clients:.3f} ack ({counts['ack'] / max(1, waiting * clients):.4f} a message)",
        ]
    )


def _logins(party: Party, waiting: int) -> list[float]:
    party.store(waiting * LOGINS, LOGINS)
    seconds = [party.log_in(number, 1, waiting) for number in range(LOGINS)]
    party.drop()
    return seconds


def _row(name: str, rounds: list[list[float]]) -> list[str]:
    pooled = Figure.of(each * 1000 for seconds in rounds for each in seconds)
    medians = Figure.of(Figure.of(seconds).median * 1000 for seconds in rounds)
    spread = f"{medians.lowest:.2f} to {medians.highest:.2f}"
    return [name, f"{pooled.median:.2f}", spread, f"{pooled.highest:.2f}"]
