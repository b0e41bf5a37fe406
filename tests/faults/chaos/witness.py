"""What the logs of a run tell: what was confirmed, what was received, and what went wrong openly."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .checker import Expected, Label, Verdict, check
from .journal import Journal, Record
from .program import Program
from .site import Audience


class Sent:
    """What dispatchers have written down."""

    def __init__(self, dispatchers: Sequence[Program]) -> None:
        self._meant: dict[Label, tuple[str, ...]] = {}
        self._confirmed: dict[Label, dict[str, int | None]] = {}
        for dispatcher in dispatchers:
            for record in Journal(dispatcher.log).news():
                self.take(record)

    def take(self, record: Record) -> None:
        """Take account of one line."""
        kind, source, number, what = record
        if kind == "meant":
            self._meant[source, number] = tuple(what)
        else:
            self._confirmed[source, number] = {id: at and at[1] for id, at in what.items()}

    @property
    def unknown(self) -> int:
        """How many messages have no known outcome."""
        return len(self._meant) - len(self._confirmed)

    def expected(self, audience: Audience) -> dict[str, Expected]:
        """What each client should get; messages to everybody are only a chance for clients of 1.x."""
        expected = {id: Expected({}, set()) for id in audience.ids}
        for label, recipients in self._meant.items():
            positions = self._confirmed.get(label)
            is_promised = positions is not None and (recipients or audience.is_wire2)
            for id in recipients or audience.ids:
                if id not in expected:
                    continue
                if is_promised and positions is not None:
                    expected[id].confirmed[label] = positions.get(id)
                else:
                    expected[id].unknown.add(label)
        return expected


class Received:
    """What the clients of one process have written down so far.

    Attributes:
        ready: who has logged in for the first time.
        complaints: lost messages, resets and ends, as they were reported to applications.
    """

    def __init__(self, audience: Audience) -> None:
        self.audience = audience
        self.ready: set[str] = set()
        self.complaints: list[Record] = []
        self._journal = Journal(audience.program.log)
        self._logins: dict[str, list[list[Label]]] = defaultdict(list)
        self._labels: dict[str, set[Label]] = defaultdict(set)

    def read(self) -> None:
        """Read what is new."""
        for record in self._journal.news():
            self._take(*record)

    def missing(self, expected: Mapping[str, Expected]) -> list[str]:
        """What has not come by now of what was confirmed."""
        return [
            f"{id}: {source} #{number}"
            for id in self.audience.ids
            for source, number in sorted(expected[id].confirmed.keys() - self._labels[id])
        ]

    def verdict(self, expected: Mapping[str, Expected]) -> Verdict:
        """Judge all clients."""
        may_repeat = not self.audience.is_wire2
        return Verdict.over(
            check(id, expected[id], self._logins[id], may_repeat=may_repeat) for id in self.audience.ids
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
