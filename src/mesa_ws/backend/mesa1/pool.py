"""The portals that a server of this wire knows, and which of them is next. Without any I/O."""

import random
from collections.abc import Container


class Pool:
    """Portals in the order in which they came, each once.

    Args:
        spreads: take turns, as 1.x does: the index advances before it is used, so the second is the
            first. If not, each time one of them by chance.
    """

    def __init__(self, *, spreads: bool) -> None:
        self.spreads = spreads
        self._ids: list[str] = []
        self._index = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, id: object) -> bool:
        return id in self._ids

    def join(self, id: str) -> bool:
        """Add a portal; return whether that is news."""
        if id in self._ids:
            return False
        self._ids.append(id)
        return True

    def leave(self, id: str) -> bool:
        """Take a portal out; return whether it was there."""
        if id not in self._ids:
            return False
        self._ids.remove(id)
        return True

    def choose(self, avoid: Container[str] = ()) -> str | None:
        """The portal of the next event; one to be avoided only where there is no other."""
        rest = [id for id in self._ids if id not in avoid] or self._ids
        if not rest:
            return None
        if len(self._ids) == 1:
            return rest[0]
        if not self.spreads:
            return random.choice(rest)  # noqa: S311 - spreads load
        while True:
            self._index = self._index + 1 if self._index + 1 < len(self._ids) else 0
            if self._ids[self._index] in rest:
                return self._ids[self._index]
