"""Search for connected ids that were reported as offline."""

from collections.abc import Iterable, Iterator, Sequence
from math import inf

from tests.faults.chaos.journal import Record

from .finding import Finding

GOODBYE = 1000
"""The close code of a client that leaves by itself."""

MARGIN = 1.0
"""Seconds by which a login must precede an offline event to make it false."""


def judge_presence(
    ids: Sequence[str], clients: Iterable[Record], nodes: Iterable[Record]
) -> Iterator[Finding]:
    """Judge the `offline` records of nodes by the logins and ends in the records of clients.

    Args:
        ids: ids of the clients.
        clients: records of the clients, in order.
        nodes: records of all nodes.
    """
    spans: dict[str, list[tuple[float, float]]] = {id: [] for id in ids}
    for time, kind, id, *details in clients:
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
