"""Which portals live, as one node knows it."""

import logging
from collections.abc import Callable, Iterable
from typing import Protocol

_log = logging.getLogger("mesa_ws.backend")


class Told(Protocol):
    """Who is told."""

    def portal_joined(self, id: str) -> None:
        """A portal has come."""

    def portal_left(self, id: str) -> None:
        """A portal has ended."""


class PortalWatch:
    """Tells who comes and goes, each change once.

    Args:
        told: is told; what it raises is logged.
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        self._living: dict[str, None] = {}

    def look(self, living: Iterable[str]) -> None:
        """Compare with what is known: these portals live, and no other."""
        now = dict.fromkeys(living)
        before, self._living = self._living, now
        for id in before:
            if id not in now:
                self._tell(self._told.portal_left, id)
        for id in now:
            if id not in before:
                self._tell(self._told.portal_joined, id)

    def _tell(self, told: Callable[[str], None], id: str) -> None:
        try:
            told(id)
        except Exception:  # noqa: BLE001 - whatever the server did, the next change counts
            _log.exception("the server could not be told of portal %s", id)
