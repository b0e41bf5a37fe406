"""Tells a server which ids went offline, when their grace is over.

Redis keeps the ids in grace, and gives each to one node alone. Whoever saw an id off looks a grace
later; every heartbeat says whether some were forgotten, because the node that saw them off died.
"""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Protocol

from ...errors import BackendError
from ..base import Watcher
from .link import Link
from .plan import Call

SLACK = 0.02
"""Seconds to look later than the grace says: the clock is that of Redis."""

SLOTS = 50
"""Looks in one grace, at most; ids whose grace is over at about the same time are one."""

_log = logging.getLogger("mesa_ws.backend")


class Seat(Protocol):
    """The node, and its call."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def grace(self) -> float:
        """Seconds that an id may be away."""

    def depart(self) -> Call:
        """Take some ids whose grace is over; the reply is them."""


class Sweeper:
    """Looks for ids whose grace is over.

    Args:
        link: the connection to Redis.
        seat: the node's calls.
        watcher: who is told.
    """

    def __init__(self, link: Link, seat: Seat, watcher: Watcher) -> None:
        self._link = link
        self._seat = seat
        self._watcher = watcher
        self._dues: deque[float] = deque()
        self._news = asyncio.Event()

    def seen_off(self) -> None:
        """Ids were given up just now, so that there is something to find a grace later."""
        due = asyncio.get_running_loop().time() + self._seat.grace + SLACK
        if not self._dues or due > self._dues[-1]:
            self._dues.append(due + self._seat.grace / SLOTS)
            self._news.set()

    def look(self) -> None:
        """There is something to find now."""
        self._dues.appendleft(0.0)
        self._news.set()

    async def run(self) -> None:
        """Look whenever it is time; never ends."""
        while True:
            await self._wait()
            try:
                await self._sweep()
            except BackendError as error:
                _log.debug("node %s: looking for who is offline failed: %s", self._seat.node, error)

    async def _wait(self) -> None:
        """Wait for the first time to look, and forget it and those that passed with it."""
        loop = asyncio.get_running_loop()
        while not self._dues or self._dues[0] > loop.time():
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._dues[0] if self._dues else None):
                    await self._news.wait()
        while self._dues and self._dues[0] <= loop.time():
            self._dues.popleft()

    async def _sweep(self) -> None:
        while True:
            (ids,) = await self._link.execute([self._seat.depart().command])
            for id in ids:
                self._tell(id.decode(errors="replace"))
            if not ids:
                return

    def _tell(self, id: str) -> None:
        try:
            self._watcher.went_offline(id)
        except Exception:  # noqa: BLE001
            _log.exception("the server could not be told that %r went offline", id)
