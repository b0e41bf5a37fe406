"""Warnings that come often are logged once a minute."""

import logging
import time

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
