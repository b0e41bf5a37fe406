"""What this node holds: the truth that Redis is made to agree with."""

from collections.abc import Iterable, Iterator
from itertools import islice

Held = tuple[int, int]
"""Sockets of an id here, and the version of that."""


class Roster:
    """Ids with their sockets and the version of that entry. Versions only grow.

    It also knows of which ids the server was told that they came online, and of which of those
    Redis does not know that yet.

    Attributes:
        told: ids that the server was told of.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Held] = {}
        self._version = 0
        self._unconfirmed: set[str] = set()
        self.told: set[str] = set()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def version(self) -> int:
        """The newest version given out."""
        return self._version

    def put(self, id: str, sockets: int) -> Held:
        """Note that `id` has `sockets` connections here; returns the new entry."""
        self._version += 1
        entry = self._entries[id] = (sockets, self._version)
        return entry

    def get(self, id: str) -> Held | None:
        """The entry of `id`."""
        return self._entries.get(id)

    def drop(self, id: str) -> int:
        """Note that `id` is gone; returns the version of that."""
        self._version += 1
        self._entries.pop(id, None)
        self.told.discard(id)
        self._unconfirmed.discard(id)
        return self._version

    def tell(self, id: str) -> bool:
        """Note that the server is told that `id` is online; returns whether that is news."""
        if id in self.told:
            return False
        if id in self._entries:
            self.told.add(id)
            self._unconfirmed.add(id)
        return True

    def take_unconfirmed(self) -> list[str]:
        """The ids that the server was told of since the last call, so that Redis can be told too."""
        ids, self._unconfirmed = list(self._unconfirmed), set()
        return ids

    def untell(self) -> None:
        """Others may have told that ids of this node are offline; then they come online again."""
        self.told = set(self._unconfirmed)

    def entries(self, ids: Iterable[str]) -> dict[str, Held]:
        """The entries of those of `ids` that are held here."""
        return {id: self._entries[id] for id in ids if id in self._entries}

    @property
    def ids(self) -> list[str]:
        """All ids, as of now."""
        return list(self._entries)

    def pages(self, size: int, first: Iterable[str] = ()) -> Iterator[dict[str, Held]]:
        """The entries in pieces of at most `size`, each as it is when it is asked for.

        Args:
            size: how many are in one piece.
            first: ids that come before all others.
        """
        ids = iter(dict.fromkeys([*first, *self._entries]))
        while some := list(islice(ids, size)):
            yield self.entries(some)

    def strangers(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not held here."""
        return [id for id in ids if id not in self._entries]
