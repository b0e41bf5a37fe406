"""Records in the logs of a run: sent, confirmed and received messages, and reported losses."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .checker import Expected, Label, Verdict, check
from .journal import Journal, Record
from .program import Program
from .site import ClientProcess


class Sent:
    """The records of dispatchers."""

    def __init__(self, dispatchers: Sequence[Program]) -> None:
        self._meant: dict[Label, tuple[str, ...]] = {}
        self._confirmed: dict[Label, dict[str, int | None]] = {}
        for dispatcher in dispatchers:
            for record in Journal(dispatcher.log).news():
                self.take(record)

    def take(self, record: Record) -> None:
        """Process one record."""
        kind, source, number, what = record
        if kind == "meant":
            self._meant[source, number] = tuple(what)
        else:
            self._confirmed[source, number] = {id: at and at[1] for id, at in what.items()}

    @property
    def unknown(self) -> int:
        """Number of messages of unknown outcome."""
        return len(self._meant) - len(self._confirmed)

    def expected(self, process: ClientProcess) -> dict[str, Expected]:
        """Return what each client should receive; clients of 1.x may miss messages to everybody."""
        expected = {id: Expected({}, set()) for id in process.ids}
        for label, recipients in self._meant.items():
            positions = self._confirmed.get(label)
            is_promised = positions is not None and (recipients or process.is_wire2)
            for id in recipients or process.ids:
                if id not in expected:
                    continue
                if is_promised and positions is not None:
                    expected[id].confirmed[label] = positions.get(id)
                else:
                    expected[id].unknown.add(label)
        return expected


class Received:
    """The records of the clients of one process so far.

    Attributes:
        ready: clients that have logged in for the first time.
        complaints: lost messages, resets and ends that clients reported.
    """

    def __init__(self, process: ClientProcess) -> None:
        self.process = process
        self.ready: set[str] = set()
        self.complaints: list[Record] = []
        self._journal = Journal(process.program.log)
        self._logins: dict[str, list[list[Label]]] = defaultdict(list)
        self._labels: dict[str, set[Label]] = defaultdict(set)

    def read(self) -> None:
        """Read new records."""
        for record in self._journal.news():
            self._take(*record)

    def missing(self, expected: Mapping[str, Expected]) -> list[str]:
        """Return the confirmed messages that have not arrived."""
        return [
            f"{id}: {source} #{number}"
            for id in self.process.ids
            for source, number in sorted(expected[id].confirmed.keys() - self._labels[id])
        ]

    def verdict(self, expected: Mapping[str, Expected]) -> Verdict:
        """Judge all clients."""
        may_repeat = not self.process.is_wire2
        return Verdict.over(
            check(id, expected[id], self._logins[id], may_repeat=may_repeat) for id in self.process.ids
        )

    def _take(self, kind: str, id: str, *details: Any) -> None:
        match kind:
            case "login":
                self._logins[id].append([])
            case "ready":
                self.ready.add(id)
            case "got":
                source, number = details
                self._logins[id][-1].append((source, number))
                self._labels[id].add((source, number))
            case _:
                self.complaints.append([kind, id, *details])
