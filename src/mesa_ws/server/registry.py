"""The connections of this node: all of them, and those of each id."""

import random
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar

COMING_BACK = 1000
"""Clients that a stopping node asks to reconnect in each second."""

MIN_SPREAD = 1.0
"""Seconds over which their reconnecting is spread at least."""

C = TypeVar("C", bound=Hashable)


class Registry(Generic[C]):
    """Find connections by id in constant time. For the event loop only."""

    def __init__(self) -> None:
        self._all: dict[C, str | None] = {}
        self._by_id: dict[str, list[C]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[C]:
        return iter(tuple(self._all))

    def __contains__(self, connection: C) -> bool:
        return connection in self._all

    @property
    def ids(self) -> Sequence[str]:
        """Every id with a connection here."""
        return tuple(self._by_id)

    def come_back(self) -> Iterator[tuple[C, float]]:
        """Yield every connection, with the seconds after which its client should reconnect."""
        spread = max(MIN_SPREAD, len(self) / COMING_BACK)
        for connection in self:
            yield connection, round(random.uniform(0, spread), 3)  # noqa: S311 - spreads load

    def add(self, connection: C) -> None:
        """Add an unauthenticated connection."""
        self._all[connection] = None

    def identify(self, connection: C, id: str) -> None:
        """Find `connection` by `id` from now on, and no longer by its id before."""
        previous = self._all[connection]
        if previous != id:
            self._leave(connection, previous)
            self._all[connection] = id
            self._by_id.setdefault(id, []).append(connection)

    def id_of(self, connection: C) -> str | None:
        """Return the id of `connection`; None before authentication."""
        return self._all.get(connection)

    def discard(self, connection: C) -> None:
        """Remove a connection."""
        self._leave(connection, self._all.pop(connection, None))

    def count(self, id: str) -> int:
        """Return the number of connections of `id`."""
        return len(self._by_id.get(id, ()))

    def of(self, id: str) -> Sequence[C]:
        """Return the connections of `id`; safe to iterate while they change."""
        return tuple(self._by_id.get(id, ()))

    def everybody(self, excluding: frozenset[str], *, anonymous: bool) -> Sequence[C]:
        """Return every connection but those of the excluded ids; safe to iterate while they change.

        Args:
            excluding: ids to leave out; connections without an id cannot match.
            anonymous: whether to include connections without an id.
        """
        if anonymous and not excluding:
            return tuple(self._all)
        return [
            connection
            for connection, id in self._all.items()
            if id not in excluding and (anonymous or id is not None)
        ]

    def _leave(self, connection: C, id: str | None) -> None:
        if id is None:
            return
        connections = self._by_id[id]
        connections.remove(connection)
        if not connections:
            del self._by_id[id]
