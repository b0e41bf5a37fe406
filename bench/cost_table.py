"""The table of what a unit of work costs each peer."""

from collections.abc import Iterable, Mapping

from .figures import LOAD, SERVER, Outcome, Series, Target
from .peer import BARE, NPM

BESIDE = {BARE: BARE, "npm": NPM}

FULLY_BUSY = 0.95
"""Part of a core from which on a process is a bottleneck."""


def cost_outcome(
    name: str,
    title: str,
    series: Series,
    targets: list[Target],
    beside: Mapping[str, str] = BESIDE,
) -> Outcome:
    """Sum up the rounds of all peers.

    Args:
        name: the benchmark.
        title: what was done.
        series: what was measured.
        targets: what was promised.
        beside: whom every peer is compared with, by what the column is called.
    """
    others = [role for role in series.roles if role not in (SERVER, LOAD)]
    header = [
        "peer", f"CPU µs/{series.unit}", "spread", *(f"x {column}" for column in beside),
        *(f"{role} CPU µs" for role in others),
        f"{series.unit}s/s", "server core", "load core",
    ]  # fmt: skip
    return Outcome(
        name=name,
        title=title,
        header=header,
        rows=[_row(series, peer, others, beside.values()) for peer in series.rounds],
        raw={peer: [sample._asdict() for sample in samples] for peer, samples in series.rounds.items()},
        targets=targets,
        notes=_bottlenecks(series),
    )


def _row(series: Series, peer: str, others: list[str], beside: Iterable[str]) -> list[str]:
    cost = series.cost(peer)
    return [
        peer,
        f"{cost.median:.2f}",
        f"{cost.lowest:.2f} to {cost.highest:.2f}",
        *(times(series.ratio(peer, other)) for other in beside),
        *(f"{series.cost(peer, role).median:.2f}" for role in others),
        f"{series.speed(peer):,.0f}",
        f"{series.share(peer, SERVER):.0%}",
        f"{series.share(peer, LOAD):.0%}",
    ]


def times(ratio: float | None) -> str:
    """A ratio as text."""
    return "" if ratio is None else f"{ratio:.2f}"


def _bottlenecks(series: Series) -> list[str]:
    return [
        f"{peer}: the load generator was the bottleneck; the rate is its own, the CPU time is right"
        for peer in series.rounds
        if series.share(peer, LOAD) > FULLY_BUSY > series.share(peer, SERVER)
    ]
