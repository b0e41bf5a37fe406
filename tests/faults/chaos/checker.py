"""Compares what was confirmed with what was received: what is lost, doubled, out of order.

For each client: a message that was confirmed has to be there; one whose outcome stayed unknown may
be; nothing else may. What one source said has an order, and so have all stored messages of an id
whose positions are known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Self

Label = tuple[str, int]
"""Source and number of a message."""


class Expected(NamedTuple):
    """What one client should get.

    Attributes:
        confirmed: messages that have to be there, with their sequence where it is known.
        unknown: messages that may be there.
    """

    confirmed: dict[Label, int | None]
    unknown: set[Label]


class Verdict(NamedTuple):
    """What was found; the members are lists of what is wrong, in words.

    Attributes:
        checked: messages that had to be there.
        lost: confirmed, and never received.
        reordered: received after something that comes later.
        doubled: received again, where that may not be.
        repeated: received again after a new login, where that may be.
        strange: received, and never sent to this client.
    """

    checked: int = 0
    lost: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not (self.lost or self.reordered or self.doubled or self.strange)

    @classmethod
    def over(cls, verdicts: Iterable["Verdict"]) -> Self:
        """One verdict about many clients."""
        verdicts = list(verdicts)
        lists = [
            tuple(chain.from_iterable(members)) for members in zip(*(v[1:] for v in verdicts), strict=True)
        ]
        return cls(sum(verdict.checked for verdict in verdicts), *lists)

    def __str__(self) -> str:
        counts = {name: len(found) for name, found in zip(self._fields[1:], self[1:], strict=True)}
        return f"{self.checked} checked, " + ", ".join(f"{n} {name}" for name, n in counts.items())


def check(
    client: str, expected: Expected, logins: Sequence[Sequence[Label]], *, may_repeat: bool = False
) -> Verdict:
    """Judge what one client received.

    Args:
        client: what to call it in findings.
        expected: what it should have got.
        logins: what it got, login by login.
        may_repeat: whether a new login may bring again what came before.
    """
    firsts, again = firsts_and_again(chain.from_iterable(logins))
    doubled = (
        list(chain.from_iterable(firsts_and_again(login)[1] for login in logins)) if may_repeat else again
    )
    repeated = list((Counter(again) - Counter(doubled)).elements())
    late = set(chain.from_iterable(late_ones(part, expected.confirmed) for part in (firsts, *logins)))
    known = expected.confirmed.keys() | expected.unknown

    def tell(labels: Iterable[Label]) -> tuple[str, ...]:
        return tuple(f"{client}: {source} #{number}" for source, number in labels)

    return Verdict(
        len(expected.confirmed),
        tell(sorted(expected.confirmed.keys() - set(firsts))),
        tell(sorted(late)),
        tell(doubled),
        tell(repeated),
        tell(label for label in firsts if label not in known),
    )


def firsts_and_again(labels: Iterable[Label]) -> tuple[list[Label], list[Label]]:
    """Labels when they came for the first time, and those that came again."""
    seen: set[Label] = set()
    firsts: list[Label] = []
    again: list[Label] = []
    for label in labels:
        (again if label in seen else firsts).append(label)
        seen.add(label)
    return firsts, again


def late_ones(labels: Iterable[Label], sequences: Mapping[Label, int | None]) -> list[Label]:
    """What came after a later message of its source, or after one that stands behind it in the outbox."""
    late = []
    highest: dict[str, int] = {}
    top = 0
    for label in labels:
        source, number = label
        sequence = sequences.get(label)
        if number < highest.get(source, -1) or (sequence is not None and sequence < top):
            late.append(label)
        highest[source] = max(number, highest.get(source, -1))
        top = max(top, sequence or 0)
    return late
