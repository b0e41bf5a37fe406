"""A table of failovers, and whether every promise was kept."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from .failover import Failover, Failovers
from .finding import Fault, Finding
from .outages import Outage

ALLOWANCE = 4.0
"""Longest outage of dispatches or logins that Sentinel does not cause, in seconds."""

COLUMNS: tuple[tuple[str, Fault], ...] = (
    ("lost", "lost"),
    ("untold", "untold"),
    ("order", "out of order"),
    ("twice", "doubled"),
    ("untold", "doubled untold"),
    ("strange", "strange"),
    ("offline", "false offline"),
    ("cut", "cut"),
    ("ev.lost", "events lost"),
    ("ev.twice", "events doubled"),
    ("ev.order", "events out of order"),
    ("discon.", "false disconnection"),
)
"""Columns of the table: heading and fault."""

PERMITTED: frozenset[Fault] = frozenset({"lost", "doubled", "events lost", "events doubled"})
"""Faults that may occur where no call waits for replicas; they are counted and reported."""

PERMITTED_REPLICATED: frozenset[Fault] = PERMITTED - {"lost", "events lost"}
"""The same where every call waits for replicas."""


class Row(NamedTuple):
    """One failover.

    Attributes:
        failover: the failover.
        dispatch: outage of dispatchers.
        login: outage of logins.
        sent: dispatches, for comparison.
        found: number of faults of each kind.
    """

    failover: Failover
    dispatch: Outage
    login: Outage
    sent: int
    found: Counter[Fault]

    def broken(self, permitted: frozenset[Fault]) -> list[str]:
        """Return descriptions of the broken promises."""
        broken = [f"{n} {fault}" for fault, n in self.found.items() if fault not in permitted]
        for name, outage in (("dispatch", self.dispatch), ("login", self.login)):
            if outage.beyond > ALLOWANCE:
                broken.append(f"{outage.beyond:.1f} s without {name} beyond Sentinel's time")
        return broken

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        sentinel = self.failover.switched - self.failover.began
        seconds = [sentinel, *self.dispatch, *self.login]
        counts = [self.sent, *(self.found[fault] for _, fault in COLUMNS)]
        return [self.failover.kind, *(f"{each:.1f}" for each in seconds), *(str(n or ".") for n in counts)]


HEADINGS = [
    *("kind", "Sentinel", "dispatch", "beyond", "login", "beyond", "sent"),
    *(heading for heading, _ in COLUMNS),
]


class Report(NamedTuple):
    """The report of a run.

    Attributes:
        heading: title.
        rows: one row for each failover.
        findings: all faults.
        permitted: the faults that this run may have.
        folder: folder of the logs.
    """

    heading: str
    rows: list[Row]
    findings: list[Finding]
    permitted: frozenset[Fault]
    folder: Path

    @classmethod
    def of(
        cls,
        heading: str,
        failovers: Failovers,
        dispatches: Sequence[Outage],
        logins: Sequence[Outage],
        sent: Counter[int],
        findings: Iterable[Finding],
        permitted: frozenset[Fault],
        folder: Path,
    ) -> "Report":
        """Return the report, with every finding in the row of its failover."""
        findings = sorted(findings, key=lambda finding: finding.time)
        found: list[Counter[Fault]] = [Counter() for _ in failovers.all]
        for finding in findings:
            found[failovers.at(finding.time)][finding.fault] += 1
        rows = [
            Row(failover, dispatches[n], logins[n], sent[n], found[n])
            for n, failover in enumerate(failovers.all)
        ]
        return cls(heading, rows, findings, permitted, folder)

    @property
    def broken(self) -> list[str]:
        """Return the broken promises, row by row."""
        return [
            f"{number}: {', '.join(broken)}"
            for number, row in enumerate(self.rows, 1)
            if (broken := row.broken(self.permitted))
        ]

    def __str__(self) -> str:
        table = [["", *HEADINGS], *([str(n), *row.cells()] for n, row in enumerate(self.rows, 1))]
        table.append(["all", *self._total().cells()])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in table
        ]
        if not self.broken:
            return "\n".join([self.heading, *lines, "verdict: every promise was kept"])
        broken = ["verdict: PROMISES BROKEN", *self.broken, *self._evidence(), f"logs in {self.folder}"]
        return "\n".join([self.heading, *lines, *broken])

    def _total(self) -> Row:
        """Return the summary of all rows: the longest outages, and sums of the rest."""
        slowest = max((row.failover for row in self.rows), key=lambda each: each.switched - each.began)
        return Row(
            slowest._replace(kind="all"),
            _worst(row.dispatch for row in self.rows),
            _worst(row.login for row in self.rows),
            sum(row.sent for row in self.rows),
            sum((row.found for row in self.rows), Counter()),
        )

    def _evidence(self) -> list[str]:
        """Return some findings of each forbidden kind."""
        evidence: list[str] = []
        for fault in sorted({finding.fault for finding in self.findings} - self.permitted):
            found = [finding for finding in self.findings if finding.fault == fault]
            evidence += [f"{fault}: {each.time:.3f} {each.what}" for each in found[:5]]
        return evidence


def _worst(outages: Iterable[Outage]) -> Outage:
    longest, beyond = zip(*outages, strict=True)
    return Outage(max(longest), max(beyond))
