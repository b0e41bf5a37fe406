"""What this node holds: the truth that Redis is made to agree with."""

from collections.abc import Iterable, Iterator
from itertools import islice


class Roster:
    """Ids with their sockets and the version of that entry. Versions only grow."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, int]] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """The newest version given out."""
        return self._version

    def put(self, id: str, sockets: int) -> tuple[int, int]:
        """Note that `id` has `sockets` connections here; returns the new entry."""
        self._version += 1
        entry = self._entries[id] = (sockets, self._version)
        return entry

    def get(self, id: str) -> tuple[int, int] | None:
        """The entry of `id`."""
        return self._entries.get(id)

    def drop(self, id: str) -> int:
        """Note that `id` is gone; returns the version of that."""
        self._version += 1
        self._entries.pop(id, None)
        return self._version

    def pages(self, size: int) -> Iterator[dict[str, tuple[int, int]]]:
        """The entries in pieces of at most `size`, each as it is when it is asked for."""
        ids = iter(list(self._entries))
        while some := list(islice(ids, size)):
            yield {id: self._entries[id] for id in some if id in self._entries}

    def strangers(self, ids: Iterable[str]) -> list[str]:
        """Those of `ids` that are not held here."""
        return [id for id in ids if id not in self._entries]
