"""Samples, and the figures computed from them: medians over rounds, and ratios within each round."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any, NamedTuple, Self

SERVER = "server"
LOAD = "load"


class Sample(NamedTuple):
    """One round of one peer.

    Attributes:
        units: work done, such as messages delivered or clients connected.
        wall: seconds it took.
        cpu: CPU seconds of each process that took part, by its role.
    """

    units: int
    wall: float
    cpu: Mapping[str, float]

    def cost(self, role: str = SERVER) -> float:
        """CPU microseconds a unit."""
        return self.cpu[role] / self.units * 1e6

    def share(self, role: str) -> float:
        """Share of a core that a process used."""
        return self.cpu[role] / self.wall


class Figure(NamedTuple):
    """Summary of a value that was measured several times."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Summarize measured values."""
        values = sorted(values)
        return cls(median(values), values[0], values[-1])


@dataclass
class Series:
    """The rounds of all peers, in the same order.

    Attributes:
        unit: name of a unit of work.
        rounds: samples by peer.
        failures: why peers of others did not finish; they have no samples.
    """

    unit: str
    rounds: dict[str, list[Sample]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, peer: str, sample: Sample) -> None:
        """Add the sample of a peer."""
        self.rounds.setdefault(peer, []).append(sample)

    def fail(self, peer: str, why: str) -> None:
        """Drop a peer, and all its samples."""
        self.failures[peer] = why
        self.rounds.pop(peer, None)

    def cost(self, peer: str, role: str = SERVER) -> Figure:
        """CPU microseconds a unit."""
        return Figure.of(sample.cost(role) for sample in self.rounds[peer])

    def share(self, peer: str, role: str) -> float:
        """Share of a core that a process used."""
        return median(sample.share(role) for sample in self.rounds[peer])

    def speed(self, peer: str) -> float:
        """Units a second."""
        return median(sample.units / sample.wall for sample in self.rounds[peer])

    def ratio(self, peer: str, other: str, role: str = SERVER) -> float | None:
        """Cost of `peer` relative to `other`: the median of the ratios within each round."""
        found = self.ratios(peer, other, role)
        return median(found) if found else None

    def ratios(self, peer: str, other: str, *roles: str) -> list[float]:
        """Return the cost of `peer` relative to `other` within each round, of all `roles` together."""
        return [
            _sum(mine, roles) / _sum(their, roles)
            for mine, their in zip(self.rounds.get(peer, ()), self.rounds.get(other, ()), strict=False)
        ]

    def speeds(self, peer: str, other: str) -> list[float]:
        """Return the units a second of `peer` relative to those of `other` within each round."""
        return [
            (mine.units / mine.wall) / (their.units / their.wall)
            for mine, their in zip(self.rounds.get(peer, ()), self.rounds.get(other, ()), strict=False)
        ]

    @property
    def roles(self) -> list[str]:
        """The processes that took part."""
        return list(next(iter(self.rounds.values()))[0].cpu)


class Target(NamedTuple):
    """A promise about speed or memory, and the measured value; None where a peer was missing.

    Attributes:
        what: description of the value.
        limit: the most it may be.
        found: the value, or the median of its rounds.
        lower: the lower quartile of the rounds, where there are several.
        upper: the upper quartile.
        is_minimum: whether `limit` is the least it may be instead.
    """

    what: str
    limit: float
    found: float | None
    lower: float | None = None
    upper: float | None = None
    is_minimum: bool = False

    @classmethod
    def of(cls, what: str, limit: float, values: Sequence[float]) -> Self:
        """Return the promise that the median of the values of all rounds is at most `limit`."""
        if not values:
            return cls(what, limit, None)
        lower, found, upper = quartiles(values)
        return cls(what, limit, found, lower, upper)

    @classmethod
    def at_least(cls, what: str, limit: float, values: Sequence[float]) -> Self:
        """Return the promise that the median is at least `limit`."""
        return cls.of(what, limit, values)._replace(is_minimum=True)

    @property
    def verdict(self) -> str:
        """Whether the promise is kept, as text."""
        if self.found is None:
            return "not measured"
        is_kept = self.found >= self.limit if self.is_minimum else self.found <= self.limit
        return "met" if is_kept else "missed"


@dataclass(kw_only=True)
class Outcome:
    """Result of one benchmark, as a table and as JSON.

    Attributes:
        name: name of the benchmark.
        title: description of the work, in one line.
        header: names of the columns.
        rows: the table.
        targets: the promises.
        notes: remarks on how to read the table.
        raw: all measured values.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: list[Sequence[str]]
    raw: dict[str, Any]
    targets: list[Target] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


def _sum(sample: Sample, roles: Sequence[str]) -> float:
    return sum(sample.cost(role) for role in roles or (SERVER,))
