"""Comparison of confirmed and received messages: which are lost, doubled, or out of order.

Each client must receive the confirmed messages, may receive those of unknown outcome, and no others.
Messages of one source have an order, and so have the stored messages of an id with known positions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Self

Label = tuple[str, int]
"""Source and number of a message."""


class Expected(NamedTuple):
    """The messages that one client should receive.

    Attributes:
        confirmed: messages that it must receive, with their sequence where it is known.
        unknown: messages that it may receive.
    """

    confirmed: dict[Label, int | None]
    unknown: set[Label]


class Verdict(NamedTuple):
    """The result; its members are lists of descriptions.

    Attributes:
        checked: messages that had to arrive.
        lost: confirmed, and never received.
        reordered: received after a later message.
        doubled: received again where that is forbidden.
        repeated: received again after a new login, where that is allowed.
        strange: received, but never sent to this client.
    """

    checked: int = 0
    lost: tuple[str, ...] = ()
    reordered: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    strange: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether all promises were kept."""
        return not (self.lost or self.reordered or self.doubled or self.strange)

    @classmethod
    def over(cls, verdicts: Iterable["Verdict"]) -> Self:
        """Return one verdict about many clients."""
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
    """Judge the messages that one client received.

    Args:
        client: its name in descriptions.
        expected: the messages that it should have received.
        logins: the messages that it received, login by login.
        may_repeat: whether messages may arrive again after a new login.
    """
    firsts, again = firsts_and_again(chain.from_iterable(logins))
    doubled = (
        list(chain.from_iterable(firsts_and_again(login)[1] for login in logins)) if may_repeat else again
    )
    repeated = list((Counter(again) - Counter(doubled)).elements())
    # A client of 1.x that is away misses messages to everybody; a server that is behind may send one later.
    ordered = [label for label in firsts if not (may_repeat and label[0].endswith("/*"))]
    late = set(chain.from_iterable(late_ones(part, expected.confirmed) for part in (ordered, *logins)))
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
    """Return the labels in the order of their first arrival, and the repeated ones."""
    seen: set[Label] = set()
    firsts: list[Label] = []
    again: list[Label] = []
    for label in labels:
        (again if label in seen else firsts).append(label)
        seen.add(label)
    return firsts, again


def late_ones(labels: Iterable[Label], sequences: Mapping[Label, int | None]) -> list[Label]:
    """Yield messages that came after a later one of their source, or after a later one of the outbox."""
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
