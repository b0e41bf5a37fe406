"""Report of outcomes, as tables on the terminal and as JSON files."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .figures import Outcome, Target
from .interpreter import find_build
from .options import Options

_SLOW = (
    "WARNING this Python was built without a profile (PGO), so figures are up to half higher than with one; "
    "run the benchmarks with a build that has one, such as Debian's python3, or configure yours with "
    "--enable-optimizations --with-lto"
)

BY_CHOICE = "left out by --peers"
"""End of the reason why a peer was not wanted."""

TARGETS = ["target", "found (quartiles)", "limit", "verdict"]

WIDTH = 140
"""Width of the output where there is no terminal."""


class Report:
    """Prints outcomes, and writes a file for each.

    Args:
        machine: description of the machine.
        options: amount of work.
    """

    def __init__(self, machine: Mapping[str, str], options: Options) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = WIDTH
        self._machine = machine
        self._options = options
        self._left_out: list[str] = []
        self._targets: list[Target] = []

    def begin(self) -> None:
        """Print the machine and the options."""
        self._console.print(", ".join(f"{name} {value}" for name, value in self._machine.items()))
        if not find_build().is_optimised:
            self._console.print(_SLOW, style="bold yellow", markup=False)

    def skip(self, why: str) -> None:
        """Print that a part is skipped."""
        self._left_out.append(why)
        self._console.print(f"SKIPPED {why}", style="bold yellow", markup=False)

    def add(self, outcome: Outcome) -> None:
        """Print an outcome, and write it to a file."""
        self._console.print()
        self._console.print(_table(outcome))
        self._targets += outcome.targets
        for target in outcome.targets:
            self._console.print(_line(target), style=_STYLES[target.verdict], markup=False)
        for note in outcome.notes:
            self._console.print(f"  {note}", markup=False)
        self._console.print(f"  written to {self._write(outcome)}", style="dim", markup=False, soft_wrap=True)

    def end(self) -> None:
        """Print all targets of the run in one table, and write them to a file in Markdown."""
        if not self._targets:
            return
        table = Table(title="targets", title_justify="left", title_style="bold")
        for name in TARGETS:
            table.add_column(name, justify="left" if name == TARGETS[0] else "right")
        for target in self._targets:
            table.add_row(*target_row(target), style=_STYLES[target.verdict])
        self._console.print()
        self._console.print(table)
        lines = [TARGETS, ["---"] * len(TARGETS), *(target_row(target) for target in self._targets)]
        path = self._options.results / "targets.md"
        path.write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))
        self._console.print(f"  written to {path}", style="dim", markup=False, soft_wrap=True)

    def _write(self, outcome: Outcome) -> Path:
        folder = self._options.results
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{outcome.name}.json"
        content = {
            "benchmark": outcome.name,
            "machine": self._machine,
            "options": asdict(self._options),
            "left out": self._left_out,
            **asdict(outcome),
            "targets": [{**target._asdict(), "verdict": target.verdict} for target in outcome.targets],
        }
        path.write_text(json.dumps(content, indent=1, default=str) + "\n")
        return path


def _table(outcome: Outcome) -> Table:
    table = Table(title=f"{outcome.name}: {outcome.title}", title_justify="left", title_style="bold")
    for number, name in enumerate(outcome.header):
        table.add_column(name, justify="right" if number else "left")
    for row in outcome.rows:
        table.add_row(*row)
    return table


def target_row(target: Target) -> list[str]:
    """Return a target as a row of a table: description, value with quartiles, limit, verdict."""
    found = "" if target.found is None else f"{target.found:.3g}"
    if target.lower is not None and target.upper is not None:
        found += f" ({target.lower:.3g}–{target.upper:.3g})"
    bound = "at least" if target.is_minimum else "at most"
    return [target.what, found, f"{bound} {target.limit:g}", target.verdict]


def _line(target: Target) -> str:
    found = "" if target.found is None else f"{target.found:.4g}, "
    bound = "at least" if target.is_minimum else "at most"
    return f"  {target.what}: {found}{bound} {target.limit:g}: {target.verdict}"


_STYLES: Mapping[str, str] = {"met": "green", "missed": "bold red", "not measured": "yellow"}
