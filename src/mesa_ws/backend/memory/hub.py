"""What the backends of one process share."""

import time
from collections.abc import Callable

from .cluster import Cluster


class MemoryHub:
    """What Redis would be: keeps, for every namespace, its nodes, whom they hold, and outboxes.

    Used from one event loop at a time. What it keeps is gone with it.

    Args:
        clock: tells the time in seconds of Unix time.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._clusters: dict[str | None, Cluster] = {}

    def cluster(self, namespace: str | None) -> Cluster:
        """What the nodes of a namespace share."""
        if namespace not in self._clusters:
            self._clusters[namespace] = Cluster(self._clock)
        return self._clusters[namespace]
