"""Presence in a cluster: which ids are online, for applications, and which portals live, for nodes."""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from ..concurrency.blocking import awaited, warn_in_event_loop
from .base import AsyncBus, BlockingQueries, Watcher
from .queries import FIRST, ConnectionCount, Online, OnlineCount, OnlineIds

INSTEAD = "server.presence_blocking, or the presence of a Dispatcher"

_log = logging.getLogger("mesa_ws.backend")


class ClusterPresence:
    """Answers which ids have connections, over all servers of a namespace.

    Args:
        bus: answers the questions.
    """

    def __init__(self, bus: AsyncBus) -> None:
        self._bus = bus

    @awaited("presence.online", INSTEAD)
    async def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id.

        Args:
            ids: a list, or any other iterable; `"*"` is no id.

        Raises:
            InvalidRecipients: a bare string, None or a number in place of a list, or one of them
                is no id.
            BackendError: the backend did not answer.
        """
        return await self._bus.query(Online(ids))

    @awaited("presence.count", INSTEAD)
    async def count(self) -> int:
        """Count the ids that have connections.

        Raises:
            BackendError: the backend did not answer.
        """
        return await self._bus.query(OnlineCount())

    @awaited("presence.connections", INSTEAD)
    async def connections(self) -> int:
        """Count the connections, whether they have authenticated or not.

        Servers report their number with each heartbeat, so over Redis it is up to a third of their
        lease old, 5 seconds; a server that was killed counts until its lease has run out.

        Raises:
            BackendError: the backend did not answer.
        """
        return await self._bus.query(ConnectionCount())

    async def ids(self) -> AsyncIterator[str]:
        """Iterate over the ids that have connections, in no order; read in pages of some hundred.

        An id that is online during the whole iteration comes at least once, and twice only where many
        others come and go. One that comes or goes during the iteration may be missing. Leaving the loop
        early is fine.

        Raises:
            BackendError: the backend did not answer.
        """
        cursor: str | None = FIRST
        while cursor is not None:
            page = await self._bus.query(OnlineIds(cursor))
            for id in page.ids:
                yield id
            cursor = page.cursor


class BlockingClusterPresence:
    """`ClusterPresence` for threads.

    Args:
        bus: answers the questions.
    """

    def __init__(self, bus: BlockingQueries) -> None:
        self._bus = bus

    def online(self, ids: Iterable[str]) -> dict[str, int]:
        """Count the connections of each id; see `ClusterPresence.online`."""
        warn_in_event_loop()
        return self._bus.query(Online(ids))

    def count(self) -> int:
        """Count the ids that have connections; see `ClusterPresence.count`."""
        warn_in_event_loop()
        return self._bus.query(OnlineCount())

    def connections(self) -> int:
        """Count the connections, authenticated or not; see `ClusterPresence.connections`."""
        warn_in_event_loop()
        return self._bus.query(ConnectionCount())

    def ids(self) -> Iterator[str]:
        """Iterate over the ids that have connections; see `ClusterPresence.ids`."""
        cursor: str | None = FIRST
        while cursor is not None:
            warn_in_event_loop()
            page = self._bus.query(OnlineIds(cursor))
            yield from page.ids
            cursor = page.cursor


class PortalWatch:
    """Tells a node which portals join and leave, each change once.

    Args:
        watcher: the node; what it raises is logged.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._living: dict[str, None] = {}

    def look(self, living: Iterable[str]) -> None:
        """Compare the portals that live now with those of the last call, and report the changes."""
        now = dict.fromkeys(living)
        before, self._living = self._living, now
        for id in before:
            if id not in now:
                self._report(self._watcher.portal_left, id)
        for id in now:
            if id not in before:
                self._report(self._watcher.portal_joined, id)

    def _report(self, change: Callable[[str], None], id: str) -> None:
        try:
            change(id)
        except Exception:  # noqa: BLE001 - whatever the server did, the next change counts
            _log.exception("the server failed to note that portal %s joined or left", id)
