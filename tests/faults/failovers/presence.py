"""Whether ids that were connected all the time were reported as offline."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from tests.faults.chaos.journal import Record

from .finding import Finding

GOODBYE = 1000
"""The close code of a client that leaves by itself."""

MARGIN = 1.0
"""Seconds by which a login has to be older than an offline event that it makes false."""


def judge_presence(
    ids: Sequence[str], audience: Iterable[Record], nodes: Iterable[Record]
) -> Iterator[Finding]:
    """Judge the `offline` records of nodes by the logins and ends that clients wrote down.

    Args:
        ids: the clients.
        audience: their records, in order.
        nodes: records of all nodes.
    """
    spans: dict[str, list[tuple[float, float]]] = {id: [] for id in ids}
    for time, kind, id, *details in audience:
        if kind == "ready" or (kind == "login" and spans[id]):
            spans[id].append((time, inf))
        elif kind == "cut" and spans[id]:
            spans[id][-1] = (spans[id][-1][0], time)
            if details[0] != GOODBYE:
                yield Finding("cut", time, f"{id} with {details[0]}")
    for time, kind, *details in nodes:
        if kind == "offline" and any(
            begin <= time - MARGIN and time <= end for begin, end in spans.get(details[0], ())
        ):
            yield Finding("false offline", time, str(details[0]))
