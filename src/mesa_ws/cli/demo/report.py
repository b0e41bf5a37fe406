"""What happened, compared with what had to happen."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from ..output import compact, console, plain
from .audience import Arrival
from .processes import DispatchRun
from .story import SCENES, Scene

_NOT_FOR_IT = "-"


class Report(NamedTuple):
    """The outcome of the demo.

    Attributes:
        runs: the dispatches, in the order of `SCENES`.
        received: what each id received, in order.
        seats: the server each id was connected to.
    """

    runs: Sequence[DispatchRun]
    received: Mapping[str, Sequence[Arrival]]
    seats: Mapping[str, str]

    @property
    def problems(self) -> list[str]:
        """Everything that differs from what had to happen; empty when all is well."""
        return [problem for id, arrivals in self.received.items() for problem in _problems(id, arrivals)]

    @property
    def document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {
            "ok": not self.problems,
            "problems": self.problems,
            "servers": dict(self.seats),
            "dispatches": [
                {
                    "type": scene.type,
                    "data": scene.data,
                    "to": scene.to,
                    "process": run.pid,
                    "received_after_ms": self._delays_ms(scene, run),
                }
                for scene, run in zip(SCENES, self.runs, strict=True)
            ],
        }

    def print(self) -> None:
        """Print it as a table: a row a dispatch, a column a client."""
        table = Table("dispatched", "to", "by process", *(f"client {id}" for id in self.received))
        for scene, run in zip(SCENES, self.runs, strict=True):
            delays = self._delays_ms(scene, run)
            cells = [Text(_shown(delays.get(id)), justify="right") for id in self.received]
            table.add_row(plain(f"{scene.type} {compact(scene.data)}"), plain(scene.to), str(run.pid), *cells)
        output = console()
        output.print(table)
        output.print(f"Milliseconds from dispatch to receipt; {_NOT_FOR_IT} received nothing.")

    def _delays_ms(self, scene: Scene, run: DispatchRun) -> dict[str, float]:
        return {
            id: round((arrival.at - run.outcome.dispatched_at) * 1000, 1)
            for id, arrivals in self.received.items()
            for arrival in arrivals
            if arrival.type == scene.type
        }


def _shown(delay_ms: float | None) -> str:
    return _NOT_FOR_IT if delay_ms is None else f"{delay_ms:.1f}"


def _problems(id: str, arrivals: Sequence[Arrival]) -> Iterator[str]:
    expected = [(scene.type, compact(scene.data)) for scene in SCENES if id in scene.receivers]
    got = [(arrival.type or "-", compact(arrival.data)) for arrival in arrivals]
    for name, data in expected:
        if (name, data) not in got:
            yield f"client {id}: expected {name} {data}, got none"
    for name, data in sorted(set(got)):
        if (name, data) not in expected:
            yield f"client {id}: expected no {name} {data}, got one"
        elif got.count((name, data)) > 1:
            yield f"client {id}: expected {name} {data} once, got it {got.count((name, data))} times"
    if sorted(got) == sorted(expected) and got != expected:
        yield f"client {id}: expected the order of dispatch, got {', '.join(name for name, _ in got)}"
