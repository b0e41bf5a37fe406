"""How much threads may have under way at the same time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .pending import too_many


class Quota:
    """Counts requests of the threads of this process; a process that was forked begins with none.

    Args:
        most: that may wait at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of = self._mine()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count one while it lasts.

        Raises:
            TooManyRequests: there are as many already.
        """
        if self._of[0] != os.getpid():
            self._of = self._mine()
        _, free = self._of
        if not free.acquire(blocking=False):
            raise too_many(self._most)
        try:
            yield
        finally:
            free.release()

    def _mine(self) -> tuple[int, threading.BoundedSemaphore]:
        return os.getpid(), threading.BoundedSemaphore(self._most)
