"""How long to wait before connecting again.

Section 15.5 of the protocol: a pause is an interval plus a random time that grows with every attempt.
Both together stay under `max_pause`, unless the server asks for a longer interval.
"""

import logging
import random
import time

from ..settings import Reconnection

DEFAULT_INTERVAL = 1.0
"""Seconds to wait at least where neither the server nor the application names an interval."""

SPREAD = 0.25
"""Part of a long interval that the random time may grow to, so that clients do not return all at once."""


class Backoff:
    """Pauses between a connection that was lost, or not opened, and the next attempt."""

    def __init__(self, settings: Reconnection) -> None:
        self._settings = settings
        self._attempts = 0
        self._last = 0.0

    def next(self, *asked: float | None) -> float:
        """Return the seconds before the next attempt.

        Args:
            asked: intervals that the server asked for, if it did; the longest counts.
        """
        interval = max(self._settings.interval or 0.0, *(each or 0.0 for each in asked))
        return self._pause(interval or DEFAULT_INTERVAL, interval or DEFAULT_INTERVAL)

    def after(self, asked: float) -> float:
        """Return the seconds before the next attempt, where the server named the time to stay away."""
        return self._pause(asked, self._settings.interval or DEFAULT_INTERVAL)

    def lasted(self, seconds: float) -> None:
        """Start over if a connection was usable for longer than any pause.

        A login alone proves nothing: a server may accept clients and throw each of them out again.
        """
        if seconds > max(self._settings.max_pause, self._last):
            self._attempts = 0

    def _pause(self, interval: float, jitter: float) -> float:
        limit = max(self._settings.max_pause, interval * (1 + SPREAD))
        # 2 ** 32 intervals are beyond any limit, and far from the end of floats.
        most = min(jitter * 2 ** min(self._attempts, 32), limit - interval)
        self._attempts += 1
        self._last = interval + random.uniform(0, most)  # noqa: S311 - spreads load, protects nothing
        return self._last


QUIET = 60.0
"""Seconds between two warnings about the same trouble."""


class Quietly:
    """One trouble."""

    def __init__(self) -> None:
        self._until = 0.0

    def warn(self, log: logging.Logger, text: str, *args: object) -> None:
        """Log a warning, unless that was done within the last minute."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + QUIET
            log.warning(text, *args)
