"""Cost of a message to one client, with few and with many clients connected."""

from collections.abc import Sequence
from contextlib import ExitStack

from .cost_table import times
from .figures import LOAD, SERVER, Outcome, Sample, Series, Target
from .limits import raise_limit
from .options import Options
from .peer import OURS, Peer
from .rig import Rig, all_rigged, take_turns

NAME = "one"
SAME = 1.25
"""Largest ratio at which costs count as equal; many clients fit the CPU caches less well."""


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send to single clients, with few and with many clients connected."""
    few, many = options.connections, options.many
    missing = raise_limit(many)
    counts = (few,) if missing else (few, many)
    series = _measure(options, peers, counts)
    return Outcome(
        name=NAME,
        title=f"{options.singles} messages, each to one client, with {few:,} and with {many:,} clients",
        header=[
            "peer",
            *(f"CPU µs, {count:,}" for count in counts),
            "ratio",
            "server core",
            "load core",
        ],
        rows=[_row(series, peer.name, counts) for peer in peers],
        raw={label: [sample._asdict() for sample in samples] for label, samples in series.rounds.items()},
        targets=[
            Target(
                f"CPU of a message to one of {many:,} relative to one of {few:,}",
                SAME,
                series.ratio(_label(OURS, many), _label(OURS, few)),
            )
        ],
        notes=[f"{few} clients only: {missing}"] if missing else [],
    )


def _measure(options: Options, peers: Sequence[Peer], client_counts: Sequence[int]) -> Series:
    with ExitStack() as running:
        rigs: dict[str, tuple[Rig, int]] = {}
        for clients in client_counts:
            for name, rig in running.enter_context(all_rigged(peers, clients)).items():
                rigs[_label(name, clients)] = rig, clients

        def round_of(label: str) -> Sample:
            rig, clients = rigs[label]
            details = {"messages": options.singles, "deliveries": options.singles, "connections": clients}
            return rig.measure(options.singles, lambda: rig.deliver("single", **details))

        return take_turns(rigs, options.rounds, "message", round_of)


def _label(peer: str, clients: int) -> str:
    return f"{peer}, {clients} clients"


def _row(series: Series, peer: str, client_counts: Sequence[int]) -> list[str]:
    labels = [_label(peer, clients) for clients in client_counts]
    return [
        peer,
        *(f"{series.cost(label).median:.1f}" for label in labels),
        times(series.ratio(labels[-1], labels[0])),
        f"{series.share(labels[-1], SERVER):.0%}",
        f"{series.share(labels[-1], LOAD):.0%}",
    ]
