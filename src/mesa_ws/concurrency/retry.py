"""Pauses between attempts, and calls and warnings that do not repeat themselves."""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable

from ..settings import Reconnection

DEFAULT_INTERVAL = 1.0
"""Seconds to wait at least where neither the server nor the application names an interval."""

SPREAD = 0.25
"""Part of a long interval that the random time may grow to, so that clients do not return all at once."""

QUIET = 60.0
"""Seconds between two warnings about the same trouble."""

RETRY = 1.0
"""Seconds until a heartbeat that failed is sent again, unless a part of the lease is shorter."""

RETRIES = 15
"""Number of such parts: so many attempts fit into one lease."""


def retry_after(lease: float) -> float:
    """Return the seconds until a heartbeat that failed is sent again."""
    return min(RETRY, lease / RETRIES)


class Backoff:
    """Pauses between attempts that fail: each is longer than the one before, up to a limit.

    Args:
        first: seconds of the first pause.
        longest: seconds that no pause exceeds.
        factor: by which each pause is longer than the one before.
        jitter: part of a pause that is random, so that many callers do not retry at the same time.
    """

    __slots__ = ("_factor", "_first", "_jitter", "_longest", "_pause")

    def __init__(self, first: float, longest: float, *, factor: float = 2.0, jitter: float = 0.5) -> None:
        self._first = self._pause = first
        self._longest = longest
        self._factor = factor
        self._jitter = jitter

    def next(self) -> float:
        """Return the seconds before the next attempt."""
        pause = self._pause
        self._pause = min(self._factor * pause, self._longest)
        return pause - random.uniform(0, self._jitter * pause)  # noqa: S311 - spreads load, protects nothing

    def reset(self) -> None:
        """Begin with the first pause again, after an attempt that succeeded."""
        self._pause = self._first


class ReconnectBackoff:
    """Pauses of a client between a connection that was lost, or not opened, and the next attempt.

    Section 15.5 of the protocol: a pause is an interval plus a random time that grows with every attempt.
    Both together stay under `max_pause`, unless the server asks for a longer interval.
    """

    def __init__(self, settings: Reconnection) -> None:
        self._settings = settings
        self._attempts = 0
        self._last = 0.0

    def next(self, *requested: float | None) -> float:
        """Return the seconds before the next attempt.

        Args:
            requested: intervals that the server asked for, if it did; the longest counts.
        """
        interval = max(self._settings.interval or 0.0, *(each or 0.0 for each in requested))
        return self._add_jitter(interval or DEFAULT_INTERVAL, interval or DEFAULT_INTERVAL)

    def after(self, requested: float) -> float:
        """Return the seconds before the next attempt, where the server named the time to stay away."""
        return self._add_jitter(requested, self._settings.interval or DEFAULT_INTERVAL)

    def lasted(self, seconds: float) -> None:
        """Start over if a connection was usable for longer than any pause.

        A login alone proves nothing: a server may accept clients and close their connections at once.
        """
        if seconds > max(self._settings.max_pause, self._last):
            self._attempts = 0

    def _add_jitter(self, interval: float, jitter: float) -> float:
        limit = max(self._settings.max_pause, interval * (1 + SPREAD))
        # 2 ** 32 intervals are beyond any limit, and far from the end of floats.
        most = min(jitter * 2 ** min(self._attempts, 32), limit - interval)
        self._attempts += 1
        self._last = interval + random.uniform(0, most)  # noqa: S311 - spreads load, protects nothing
        return self._last


class LimitedWarning:
    """A warning about one trouble, logged at most once in `QUIET` seconds."""

    def __init__(self) -> None:
        self._until = 0.0

    def warn(self, log: logging.Logger, text: str, *args: object) -> None:
        """Log a warning, unless it was logged within the last minute."""
        now = time.monotonic()
        if now >= self._until:
            self._until = now + QUIET
            log.warning(text, *args)


class SpacedCall:
    """Call a function soon after each request, but not before `pause` seconds after the call before.

    Requests that come until then share one call. For the event loop only.
    """

    def __init__(self, call: Callable[[], None], pause: float) -> None:
        self._call = call
        self._pause = pause
        self._due = -math.inf

    def soon(self) -> None:
        """Request a call; never raises."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._due:
            self._due = max(now, self._due + self._pause)
            loop.call_at(self._due, self._call)
