"""What the backend tells a node, on its way to the application."""

import logging
from datetime import UTC, datetime

from .handlers import Handlers
from .loop_work import LoopWork
from .news import IdNews

log = logging.getLogger("mesa_ws.server")


class Telling(LoopWork):
    """Calls the handlers that are about ids, portals or Redis, and about no connection.

    Args:
        handlers: the application's.
    """

    def __init__(self, handlers: Handlers) -> None:
        super().__init__()
        self.handlers = handlers
        self._news = IdNews(self.spawn)
        self._portal_news = IdNews(self.spawn)

    def came_online(self, id: str) -> None:
        """Tell the application that an id has its first connection in the cluster."""
        if self.handlers.online and self._loop is not None:
            self._news.add(id, lambda: self.handlers.came_online(id))

    def went_offline(self, id: str) -> None:
        """Tell the application that an id has had none for longer than the grace."""
        if self.handlers.offline and self._loop is not None:
            self._news.add(id, lambda: self.handlers.went_offline(id))

    def portal_joined(self, id: str) -> None:
        """Tell middleware that a portal takes part."""
        if self.handlers.portal_join and self._loop is not None:
            self._portal_news.add(id, lambda: self.handlers.portal_joined(id))

    def portal_left(self, id: str) -> None:
        """Tell middleware that a portal takes part no more."""
        if self.handlers.portal_leave and self._loop is not None:
            self._portal_news.add(id, lambda: self.handlers.portal_left(id))

    def forked(self, since: float) -> None:
        """Tell the application that Redis may have forgotten what it confirmed after `since`."""
        what = f"after {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC" if since else "before now"
        log.warning("Redis restarted or failed over: what it confirmed %s may be lost", what)
        if self.handlers.forked and self._loop is not None:
            self._news.add("*", lambda: self.handlers.forked_store(since))

    def tell_lost(self, id: str, count: int) -> None:
        """Tell the application that a client of 1.x has lost messages."""
        if self.handlers.lost:
            self._news.add(id, lambda: self.handlers.lost_messages(id, count))
