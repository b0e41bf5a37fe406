"""Judges whether a tab received the numbers that were dispatched to its user, all of which were confirmed.

Numbers are dispatched one after another, and the store loses nothing unless it is emptied. A tab receives
each of them once, in order, except where its client reports a reset: numbers may be missing or repeat there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Literal, NamedTuple

NoteKind = Literal["number", "reset", "forked", "lost", "refused", "state"]

FLUSH_LIMIT = 30.0
"""Seconds within which a client has to report that the store was emptied."""

RESETS = 2
"""Largest number of resets: one for its outbox, and one for messages to everybody."""


class Note(NamedTuple):
    """One note of a tab.

    Attributes:
        at: seconds since 1970.
        kind: `number`: its application handled it; `reset`, `forked` and `lost`: its client reported it;
            `refused`: a message that it sent; `state`: of its client.
        value: the number; the rollback; how many were lost; why; the state.
    """

    at: float
    kind: NoteKind
    value: int | str = 0


@dataclass(frozen=True)
class Verdict:
    """The verdict about one tab.

    Attributes:
        confirmed: numbers that were dispatched to its user.
        received: of these, how many the tab received.
        lost: of these, how many are missing without a reset.
        doubled: repeated numbers without a reset.
        disordered: numbers that came after a later one.
        missing: numbers missing at a reset.
        again: repeated numbers after a reset.
        resets: number of reported resets.
        forks: number of reported forks.
        losses: number of messages reported as lost.
        untold: times that the store was emptied without a reported reset.
        false: reported resets without a reason, or too many for one.
        refused: messages that the tab could not send.
        returns: number of reconnections.
    """

    confirmed: int = 0
    received: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    missing: int = 0
    again: int = 0
    resets: int = 0
    forks: int = 0
    losses: int = 0
    untold: int = 0
    false: int = 0
    refused: int = 0
    returns: int = 0

    @property
    def faults(self) -> tuple[str, ...]:
        """Return the counts that break a promise."""
        names = ("lost", "doubled", "disordered", "untold", "false", "refused")
        broken = [name for name in names if getattr(self, name)]
        return (*broken, "losses") if self.losses > self.missing else tuple(broken)

    @classmethod
    def head(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    def row(self) -> tuple[str, ...]:
        return tuple(map(str, astuple(self)))


def judge(confirmed: Iterable[int], notes: Sequence[Note], flushes: Sequence[float] = ()) -> Verdict:
    """Judge one tab.

    Args:
        confirmed: the numbers dispatched to its user.
        notes: notes of the tab, in order.
        flushes: times when the store was emptied, in seconds since 1970.
    """
    meant = set(confirmed)
    had = {note.value for note in notes if note.kind == "number"}
    missing = [_is_told(notes, number) for number in meant - had]
    repeats = list(_repeats(notes))
    resets = [note.at for note in notes if note.kind == "reset"]
    return Verdict(
        confirmed=len(meant),
        received=len(meant & had),
        lost=missing.count(False),
        doubled=repeats.count(False),
        disordered=_disordered(notes),
        missing=missing.count(True),
        again=repeats.count(True),
        resets=len(resets),
        forks=sum(note.kind == "forked" for note in notes),
        losses=sum(int(note.value) for note in notes if note.kind == "lost"),
        untold=sum(not any(f <= at <= f + FLUSH_LIMIT for at in resets) for f in flushes),
        false=_false(resets, flushes),
        refused=sum(note.kind == "refused" for note in notes),
        returns=max(0, sum(note[1:] == ("state", "open") for note in notes) - 1),
    )


def _false(resets: Iterable[float], flushes: Iterable[float]) -> int:
    """Count the resets that follow no emptying soon, or are more than `RESETS` for one."""
    found = 0
    told: Counter[float] = Counter()
    for at in resets:
        reason = max((f for f in flushes if f <= at <= f + FLUSH_LIMIT), default=None)
        if reason is not None:
            told[reason] += 1
        found += reason is None or told[reason] > RESETS
    return found


def _is_told(notes: Sequence[Note], missing: int) -> bool:
    """Return whether a reset was reported between the numbers around a missing one."""
    numbers = [(n, int(note.value)) for n, note in enumerate(notes) if note.kind == "number"]
    end = next((n for n, number in numbers if number > missing), len(notes))
    begin = max((n for n, number in numbers if number < missing and n < end), default=0)
    return any(note.kind == "reset" for note in notes[begin:end])


def _repeats(notes: Iterable[Note]) -> Iterator[bool]:
    """Yield for each repeated number whether a reset was reported since its last copy."""
    before: set[int] = set()
    now: set[int] = set()
    for note in notes:
        if note.kind == "reset":
            before |= now
            now = set()
        elif note.kind == "number":
            number = int(note.value)
            if number in now or number in before:
                yield number not in now
            now.add(number)


def _disordered(notes: Iterable[Note]) -> int:
    """Count the numbers that came for the first time after a later one since the last reset."""
    found, highest = 0, -1
    had: set[int] = set()
    for note in notes:
        if note.kind == "reset":
            highest = -1
        elif note.kind == "number":
            number = int(note.value)
            found += number < highest and number not in had
            highest = max(highest, number)
            had.add(number)
    return found
