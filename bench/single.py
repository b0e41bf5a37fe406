"""One message to one of many clients: does it matter how many there are?"""

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
"""A ratio up to which costs count as the same: more clients do not fit the caches as well."""


def run(options: Options, peers: Sequence[Peer]) -> Outcome:
    """Send to single clients, with few and with many clients connected."""
    few, many = options.connections, options.many
    missing = raise_limit(many)
    crowds = (few,) if missing else (few, many)
    series = _measure(options, peers, crowds)
    return Outcome(
        name=NAME,
        title=f"{options.singles} messages, each to one client, with {few:,} and with {many:,} clients",
        header=["peer", *(f"CPU µs, {crowd:,}" for crowd in crowds), "ratio", "server core", "load core"],
        rows=[_row(series, peer.name, crowds) for peer in peers],
        raw={label: [sample._asdict() for sample in samples] for label, samples in series.rounds.items()},
        targets=[
            Target(
                f"CPU of a message to one of {many:,} beside one of {few:,}",
                SAME,
                series.ratio(_label(OURS, many), _label(OURS, few)),
            )
        ],
        notes=[f"{few} clients only: {missing}"] if missing else [],
    )


def _measure(options: Options, peers: Sequence[Peer], crowds: Sequence[int]) -> Series:
    with ExitStack() as running:
        rigs: dict[str, tuple[Rig, int]] = {}
        for crowd in crowds:
            for name, rig in running.enter_context(all_rigged(peers, crowd)).items():
                rigs[_label(name, crowd)] = rig, crowd

        def round_of(label: str) -> Sample:
            rig, crowd = rigs[label]
            details = {"messages": options.singles, "deliveries": options.singles, "connections": crowd}
            return rig.measure(options.singles, lambda: rig.deliver("single", **details))

        return take_turns(rigs, options.rounds, "message", round_of)


def _label(peer: str, crowd: int) -> str:
    return f"{peer}, {crowd} clients"


def _row(series: Series, peer: str, crowds: Sequence[int]) -> list[str]:
    labels = [_label(peer, crowd) for crowd in crowds]
    return [
        peer,
        *(f"{series.cost(label).median:.1f}" for label in labels),
        times(series.ratio(labels[-1], labels[0])),
        f"{series.share(labels[-1], SERVER):.0%}",
        f"{series.share(labels[-1], LOAD):.0%}",
    ]
