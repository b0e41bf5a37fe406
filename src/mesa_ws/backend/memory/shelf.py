"""Letters that are kept for a while: the newest, as many as there is room for."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, TypeVar

from ..inbox import MAX_KEPT, DeadLetter, Waiting

Kept = TypeVar("Kept", Waiting, DeadLetter)


class Shelf(Generic[Kept]):
    """Holds letters by their places.

    Args:
        most: how many.
        size: bytes of them; the newest fits whatever its size.
    """

    def __init__(self, most: int, size: int = MAX_KEPT) -> None:
        self._most = most
        self._most_bytes = size
        self._size = 0
        self._letters: OrderedDict[int, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._letters)

    def put(self, place: int, kept: Kept) -> None:
        """Add one, and drop the oldest where there are too many."""
        self._letters[place] = kept
        self._size += len(kept.letter.data)
        while len(self._letters) > self._most or (self._size > self._most_bytes and len(self._letters) > 1):
            self.take(next(iter(self._letters)))

    def take(self, place: int) -> Kept | None:
        """Take one away."""
        kept = self._letters.pop(place, None)
        if kept is not None:
            self._size -= len(kept.letter.data)
        return kept

    def items(self) -> Iterable[tuple[int, Kept]]:
        """All of them with their places, the oldest first."""
        return self._letters.items()
