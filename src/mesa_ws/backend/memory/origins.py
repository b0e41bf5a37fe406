"""Epochs of outboxes that nothing was ever stored in, so that nothing has to be kept of them."""

import os
from hashlib import blake2b

DAY = 86_400.0

DAYS = 8
"""Days for which such an epoch is known, besides the day on which it was given out."""

BORN = 10 * DAY
"""Seconds for which an outbox is kept from its first message on, while positions of empty ones are
about: longer than its epoch could be given out again."""


class Origins:
    """Makes epochs of a secret, the day and the id, and knows them again."""

    def __init__(self) -> None:
        self._secret = os.urandom(16)
        self._given_until = 0.0
        self._wire2_until = 0.0
        self._window = 0.0

    def give(self, id: str, now: float) -> str:
        """Return the epoch of an empty outbox of `id` today, which a client will be told."""
        self._given_until = max(self._given_until, now + BORN)
        return self.epoch(id, now)

    def epoch(self, id: str, now: float) -> str:
        """Return the epoch that an empty outbox of `id` has today."""
        return self._epoch(id, int(now // DAY))

    def give_wire2(self, window: float, now: float) -> None:
        """Note that a client of wire 2 was given such an epoch, and may come back within `window`."""
        self._wire2_until, self._window = now + BORN, window

    def window(self, now: float) -> float:
        """For how long an outbox that begins keeps what was acknowledged."""
        return self._window if now < self._wire2_until else 0.0

    def are_given(self, now: float) -> bool:
        """Whether any client may come back with such an epoch."""
        return now < self._given_until

    def knows(self, id: str, epoch: str, now: float) -> bool:
        """Whether `epoch` was given out for an empty outbox of `id`; the clock may have stepped back."""
        today = int(now // DAY)
        return any(self._epoch(id, day) == epoch for day in range(today + 1, today - DAYS - 1, -1))

    def _epoch(self, id: str, day: int) -> str:
        return blake2b(f"{day}:{id}".encode(), digest_size=8, key=self._secret).hexdigest()
