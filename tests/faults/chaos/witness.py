"""What the logs of a run tell: what was confirmed, what was received, and what went wrong openly."""

from collections import defaultdict
from collections.abc import Sequence
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

    def expected(self, id: str, *, has_broadcasts: bool) -> Expected:
        """What a client should get; messages to everybody are only a chance for clients of 1.x."""
        confirmed: dict[Label, int | None] = {}
        unknown = set()
        for label, recipients in self._meant.items():
            if recipients and id not in recipients:
                continue
            if label in self._confirmed and (recipients or has_broadcasts):
                confirmed[label] = self._confirmed[label].get(id)
            else:
                unknown.add(label)
        return Expected(confirmed, frozenset(unknown))


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

    def missing(self, wanted: Label) -> list[str]:
        """Who has not received this message."""
        return [id for id in self.audience.ids if wanted not in self._labels[id]]

    def verdict(self, sent: Sent) -> Verdict:
        """Judge all clients."""
        is_wire2 = self.audience.is_wire2
        return Verdict.over(
            check(id, sent.expected(id, has_broadcasts=is_wire2), self._logins[id], may_repeat=not is_wire2)
            for id in self.audience.ids
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
