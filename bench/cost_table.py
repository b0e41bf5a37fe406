"""Table of the cost of a unit of work with each peer."""

from collections.abc import Iterable, Mapping, Sequence

from .figures import LOAD, SERVER, Outcome, Series, Target, quartiles
from .peer import BARE, NPM

BASELINES = {BARE: BARE, "npm": NPM}

FULLY_BUSY = 0.95
"""Share of a core above which a process counts as the bottleneck."""


def cost_outcome(
    name: str,
    title: str,
    series: Series,
    targets: list[Target],
    baselines: Mapping[str, str] = BASELINES,
    ours: str | None = None,
) -> Outcome:
    """Summarize the rounds of all peers.

    Args:
        name: name of the benchmark.
        title: description of the work.
        series: the samples.
        targets: the promises.
        baselines: the peers to compare every peer with, by the name of the column.
        ours: the peer that is compared with every other: a column with the ratio, and its quartiles.
    """
    others = [role for role in series.roles if role not in (SERVER, LOAD)]
    header = [
        "peer", "CPU µs", "spread", *(f"x {column}" for column in baselines),
        *(["ours / it"] if ours else []),
        *(f"{role} µs" for role in others),
        f"{series.unit}s/s", "server", "load",
    ]  # fmt: skip
    return Outcome(
        name=name,
        title=title,
        header=header,
        rows=[_row(series, peer, others, baselines.values(), ours) for peer in series.rounds],
        raw={peer: [sample._asdict() for sample in samples] for peer, samples in series.rounds.items()},
        targets=targets,
        notes=[*_bottlenecks(series), *(f"{peer} failed: {why}" for peer, why in series.failures.items())],
    )


def _row(
    series: Series, peer: str, others: list[str], baselines: Iterable[str], ours: str | None
) -> list[str]:
    cost = series.cost(peer)
    return [
        peer,
        f"{cost.median:.2f}",
        f"{cost.lowest:.2f} to {cost.highest:.2f}",
        *(times(series.ratio(peer, other)) for other in baselines),
        *([spread(series.ratios(ours, peer))] if ours else []),
        *(f"{series.cost(peer, role).median:.2f}" for role in others),
        f"{series.speed(peer):,.0f}",
        f"{series.share(peer, SERVER):.0%}",
        f"{series.share(peer, LOAD):.0%}",
    ]


def times(ratio: float | None) -> str:
    """Return a ratio as text."""
    return "" if ratio is None else f"{ratio:.2f}"


def spread(values: Sequence[float]) -> str:
    """Return the median and the quartiles of ratios as text."""
    if not values:
        return ""
    lower, middle, upper = quartiles(values)
    return f"{middle:.2f} ({lower:.2f}–{upper:.2f})"


def _bottlenecks(series: Series) -> list[str]:
    return [
        f"{peer}: the load generator was the bottleneck; the rate is its own, the CPU time is right"
        for peer in series.rounds
        if series.share(peer, LOAD) > FULLY_BUSY > series.share(peer, SERVER)
    ]
