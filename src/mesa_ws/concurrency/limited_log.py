"""A log that strangers cannot flood: what they cause is logged once a minute for each kind, and counted."""

import asyncio
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from .blocking import has_event_loop

MINUTE = 60.0
"""Seconds in which lines of one kind are counted after the first of them."""

_EXAMPLE = 200
"""Characters of the first line that are repeated with the count."""


@dataclass(slots=True)
class _Counted:
    """Lines of one kind since the first one, which was logged."""

    level: int
    first: str
    until: float
    more: int = 0


class LimitedLog(logging.LoggerAdapter[logging.Logger]):
    """Log the first line of each kind in full, and one minute later how many more there were.

    Lines of the same text are of one kind, unless they have different values of the argument `kind`. Its
    values have to be few, and chosen by the program: a close code, or a handler, but never an id. Call it in
    one thread; where no event loop runs, a count waits for the next line or for `close`.

    Args:
        log: gets the lines.
        now: returns the time in seconds.
    """

    def __init__(self, log: logging.Logger, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(log)
        self._now = now
        self._counted: dict[Hashable, _Counted] = {}
        self._timer: asyncio.TimerHandle | None = None

    def log(self, level: int, msg: object, *args: Any, kind: Hashable = None, **details: Any) -> None:
        """Log a line, or count it if one of its kind was logged in the last minute."""
        if not self.isEnabledFor(level):
            return
        self.sum_up()
        counted = self._counted.get((msg, kind))
        if counted is not None:
            counted.more += 1
            self._wake()
            return
        text = str(msg) % args if args else str(msg)
        self._counted[msg, kind] = _Counted(level, text[:_EXAMPLE], self._now() + MINUTE)
        self.logger.log(level, msg, *args, stacklevel=2, **details)

    def sum_up(self) -> None:
        """Log the counts of the minutes that are over."""
        now = self._now()
        while self._counted:  # the oldest first
            kind, counted = next(iter(self._counted.items()))
            if counted.until > now:
                break
            del self._counted[kind]
            self._tell(counted)

    def close(self) -> None:
        """Log the counts of all minutes, and forget them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for counted in self._counted.values():
            self._tell(counted)
        self._counted.clear()

    def _wake(self) -> None:
        """Sum up later, by one timer for all kinds, which exists only while there is a count."""
        if self._timer is not None or not has_event_loop():
            return
        due = min((each.until for each in self._counted.values() if each.more), default=None)
        if due is not None:
            pause = max(0.0, due - self._now())
            self._timer = asyncio.get_running_loop().call_later(pause, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.sum_up()
        self._wake()

    def _tell(self, counted: _Counted) -> None:
        if counted.more:
            number = f"{counted.more:,}".replace(",", " ")
            self.logger.log(counted.level, "%s more like this in the last minute: %s", number, counted.first)
