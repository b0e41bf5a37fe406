"""Judgement of the portal events of clients, by the records of nodes and portals."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from tests.faults.chaos.journal import Record

from .finding import Finding

MARGIN = 0.5
"""Seconds by which a node may log the end of a connection later than a portal."""

Event = tuple[str, int | None]
"""Type of an event and, for a message, its number."""

ORDER = ("connection", "authentication", "message", "disconnection")


class Life(NamedTuple):
    """A connection that has logged in, by the records of its node.

    Attributes:
        id: its id.
        begun: time of its login.
        ended: time of its end, or None if it has not ended.
    """

    id: str
    begun: float
    ended: float | None = None


def lives_of(nodes: Iterable[Record]) -> dict[str, Life]:
    """Return the connections that have logged in, by `authenticated` and `close` records of nodes."""
    lives: dict[str, Life] = {}
    for time, kind, *details in nodes:
        if kind == "authenticated":
            lives[details[0]] = Life(details[1], time)
        elif kind == "close" and details[0] in lives:
            lives[details[0]] = lives[details[0]]._replace(ended=time)
    return lives


def judge_events(
    audience: Iterable[Record], nodes: Iterable[Record], portals: Iterable[Record]
) -> Iterator[Finding]:
    """Judge the events that portals handled, by the records of clients and nodes.

    All records must be in the order of their times.
    """
    nodes = list(nodes)
    lives = lives_of(nodes)
    closed = {details[0]: time for time, kind, *details in nodes if kind == "close"}
    handled: dict[str, list[tuple[float, Event]]] = defaultdict(list)
    for time, kind, *details in portals:
        if kind == "handled":
            connection, type, number, _ = details
            handled[connection].append((time, (type, number)))
    for connection, events in handled.items():
        yield from _judge_connection(connection, events, closed.get(connection))
    yield from _missing_of_nodes(lives, handled)
    yield from _missing_of_clients(lives, handled, audience)


def _judge_connection(
    connection: str, events: list[tuple[float, Event]], closed: float | None
) -> Iterator[Finding]:
    """Judge the events of one connection, which begins again after a false disconnection."""
    seen: set[Event] = set()
    stage, highest = 0, -1
    for time, (type, number) in events:
        name = f"{connection}: {type}" if number is None else f"{connection}: {type} {number}"
        if (type, number) in seen:
            yield Finding("events doubled", time, name)
            continue
        seen.add((type, number))
        if ORDER.index(type) < stage or (number is not None and number < highest):
            yield Finding("events out of order", time, name)
        stage, highest = max(stage, ORDER.index(type)), max(highest, -1 if number is None else number)
        if type == "disconnection" and (closed is None or closed > time + MARGIN):
            yield Finding("false disconnection", time, connection)
            stage = 0
            seen = {event for event in seen if event[0] == "message"}


def _missing_of_nodes(
    lives: Mapping[str, Life], handled: Mapping[str, list[tuple[float, Event]]]
) -> Iterator[Finding]:
    """Yield beginnings and ends of connections that no portal handled."""
    for connection, life in lives.items():
        types = {type for _, (type, _) in handled.get(connection, ())}
        expected = {"connection": life.begun, "authentication": life.begun}
        if life.ended is not None:
            expected["disconnection"] = life.ended
        for type, time in expected.items():
            if type not in types:
                yield Finding("events lost", time, f"{connection} of {life.id}: {type}")


def _missing_of_clients(
    lives: Mapping[str, Life],
    handled: Mapping[str, list[tuple[float, Event]]],
    audience: Iterable[Record],
) -> Iterator[Finding]:
    """Yield messages of clients that no portal handled."""
    numbers: dict[str, set[int | None]] = defaultdict(set)
    for connection, events in handled.items():
        if connection in lives:
            numbers[lives[connection].id].update(number for _, (_, number) in events)
    for time, kind, *details in audience:
        if kind == "sent" and details[1] not in numbers[details[0]]:
            yield Finding("events lost", time, f"{details[0]}: message {details[1]}")
