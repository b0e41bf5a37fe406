"""How long to wait before coming back."""

import random

from ..client_settings import Reconnection

DEFAULT_INTERVAL = 1.0
"""Seconds to wait at least where neither the server nor the application names an interval."""


class Backoff:
    """Waiting times: the interval, plus full jitter that doubles with every attempt."""

    def __init__(self, settings: Reconnection) -> None:
        self._settings = settings
        self._attempts = 0

    def next(self, announced: float | None) -> float:
        """The seconds before the next attempt.

        Args:
            announced: the interval the server asked for, if it did.
        """
        interval = self._settings.interval or announced or DEFAULT_INTERVAL
        # 2 ** 32 intervals are beyond any limit, and far from the end of floats.
        jitter = min(self._settings.max_jitter, interval * 2 ** min(self._attempts, 32))
        self._attempts += 1
        return interval + random.uniform(0, jitter)  # noqa: S311 - spreads load, protects nothing

    def after(self, asked: float) -> float:
        """The seconds before the first attempt, where the server asked to stay away for some."""
        jitter = min(self._settings.max_jitter, self._settings.interval or DEFAULT_INTERVAL)
        return asked + random.uniform(0, jitter)  # noqa: S311 - as above

    def reset(self) -> None:
        """The connection was a good one: start over."""
        self._attempts = 0
