"""Judgement of the messages of one client: lost, reported, out of order, or doubled."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.faults.chaos.checker import Label, firsts_and_again, late_ones
from tests.faults.chaos.journal import Record

from .failover import Failovers
from .finding import Finding

LAG = 0.5
"""Seconds before a failover in which replicas may lack confirmed messages."""


class Sent(NamedTuple):
    """A message that the client may receive.

    Attributes:
        meant: time of its first dispatch.
        confirmed: time of its confirmation, after which it must arrive; otherwise None.
        position: epoch and sequence of the outbox, where that is known.
    """

    meant: float
    confirmed: float | None = None
    position: tuple[str, int] | None = None


class Heard(NamedTuple):
    """Messages and reports that one client received.

    Attributes:
        got: messages, each with its time.
        told: times when the client reported that something may be missing: lost, reset or forked.
    """

    got: Sequence[tuple[float, Label]]
    told: Sequence[float] = ()

    def was_told(self, after: float, before: float) -> bool:
        """Return whether the client reported a loss in this time."""
        return any(after <= time <= before for time in self.told)


def sent_to(ids: Sequence[str], records: Iterable[Record]) -> dict[str, dict[Label, Sent]]:
    """Return the messages that each client may receive, from the records of dispatchers."""
    found: dict[str, dict[Label, Sent]] = {id: {} for id in ids}
    for time, kind, source, number, what in records:
        if kind == "meant":
            for id in what or ids:
                found[id][source, number] = Sent(time)
        elif kind == "confirmed":
            for id in what or ids:
                position = what.get(id)
                meant = found[id][source, number].meant
                found[id][source, number] = Sent(meant, time, position and tuple(position))
    return found


def heard_by(ids: Sequence[str], records: Iterable[Record]) -> dict[str, Heard]:
    """Return what each client received, from the records of clients."""
    got: dict[str, list[tuple[float, Label]]] = {id: [] for id in ids}
    told: dict[str, list[float]] = {id: [] for id in ids}
    for time, kind, id, *details in records:
        if kind == "got":
            got[id].append((time, (details[0], details[1])))
        elif kind in {"lost", "reset", "forked"}:
            told[id].append(time)
    return {id: Heard(got[id], told[id]) for id in ids}


def judge_messages(
    id: str, sent: Mapping[Label, Sent], heard: Heard, failovers: Failovers
) -> Iterator[Finding]:
    """Judge the messages that one client received.

    The client has to report a lost message after its dispatch and before the next failover.
    """
    labels = [label for _, label in heard.got]
    times: dict[Label, float] = {}
    for time, label in heard.got:
        if label not in times:
            times[label] = time
        else:
            yield Finding("doubled", time, _name(id, label))
            if not heard.was_told(times[label], time):
                yield Finding("doubled untold", time, _name(id, label))
        if label not in sent:
            yield Finding("strange", time, _name(id, label))
    for label in sorted(sent.keys() - times.keys()):
        meant, confirmed, _ = sent[label]
        if confirmed is not None:
            yield Finding("lost", confirmed, _name(id, label))
            if not heard.was_told(meant, failovers.end_of(failovers.at(confirmed + LAG))):
                yield Finding("untold", confirmed, _name(id, label))
    for label in sorted(_out_of_order(labels, sent)):
        yield Finding("out of order", times[label], _name(id, label))


def _out_of_order(labels: Sequence[Label], sent: Mapping[Label, Sent]) -> set[Label]:
    """Yield the messages that came after a later one of their source, or of the same epoch of the outbox.

    A message that came twice was in an epoch that was rolled back, and is in the epoch of its
    confirmation, where its last copy counts.
    """
    late = set(late_ones(firsts_and_again(labels)[0], {}))
    lasts = firsts_and_again(reversed(labels))[0][::-1]
    epochs: dict[str, dict[Label, Any]] = {}
    for label in lasts:
        position = sent[label].position if label in sent else None
        if position is not None:
            epochs.setdefault(position[0], {})[label] = position[1]
    for sequences in epochs.values():
        late.update(late_ones((label for label in lasts if label in sequences), sequences))
    return late


def _name(id: str, label: Label) -> str:
    return f"{id}: {label[0]} #{label[1]}"
