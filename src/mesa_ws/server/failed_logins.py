"""Failed logins of each address: after too many, the address waits longer and longer for its next attempt.

So guessing is slow, and no id is locked by strangers, because ids do not count here. An address in IPv6 is
its network of 64 bits. One failure is forgotten every `FORGET` seconds.

The attempts of an address that has failed too often, or may have when those under way are answered, get
turns, one after another, with pauses between them that double with every further failure; an attempt whose
turn is too far away is refused. A success takes one failure back and begins with short pauses again. The
pauses of an address that has succeeded lately are always short: so one wrong client among many that share an
address does not keep the others out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..concurrency.clock import monotonic

FORGET = 30.0
"""Seconds after which one failed login of an address is forgotten."""

LONGEST_PAUSE = 16.0
"""Seconds between the attempts of an address that only fails, at most."""

LONGEST_PAUSE_AFTER_SUCCESS = 2.0
"""The same for an address from which a login has succeeded."""

LONGEST_WAIT = 5.0
"""Seconds that an attempt waits for its turn, at most."""

MOST_ADDRESSES = 10_000
"""Addresses that are remembered as failing, and as successful; beyond, those of the longest ago are not."""


@dataclass(slots=True)
class _Address:
    """The logins of one address.

    Attributes:
        at: time for which `failures` holds.
        failures: failed logins that are not forgotten.
        next_at: time of the next turn, if it has failed too often.
        under_way: attempts that wait for their turn or the authenticator.
    """

    at: float
    failures: float = 0.0
    next_at: float = 0.0
    under_way: int = 0

    def forget(self, now: float) -> None:
        """Forget the failures of long ago."""
        self.failures = max(0.0, self.failures - (now - self.at) / FORGET)
        self.at = now

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to remember."""
        return not (self.failures or self.under_way)


class FailedLogins:
    """The failed logins of one node, for each address. For its event loop only.

    Args:
        most: failures of one address before it has to wait; None for no limit.
        network_of: returns what an address is counted under; None for one without a limit.
        now: returns the time in seconds.
    """

    def __init__(
        self,
        most: int | None,
        network_of: Callable[[str | None], str | None],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._most = most
        self._network_of = network_of
        self._now = now
        self._addresses: dict[str, _Address] = {}  # those that failed last at the end
        self._succeeded: dict[str, None] = {}  # likewise

    def __len__(self) -> int:
        return len(self._addresses)

    def begin(self, address: str | None) -> float | None:
        """Count an attempt as under way.

        Returns:
            Seconds after which it may be made; None if it is refused, and not counted.
        """
        network = self._network_of(address)
        if network is None or self._most is None:
            return 0.0
        now = self._now()
        found = self._addresses.setdefault(network, _Address(now))
        found.forget(now)
        wait = 0.0
        if found.failures > self._most / 2 and found.failures + found.under_way > self._most - 1:
            turn = max(now, found.next_at)
            wait = turn - now
            if wait > LONGEST_WAIT:
                return None
            found.next_at = turn + self._pause(network, found)
        found.under_way += 1
        return wait

    def end(self, address: str | None, has_failed: bool | None) -> None:
        """Count an attempt no longer as under way.

        Args:
            address: of the client.
            has_failed: whether the login was refused; None if the authenticator gave no answer.
        """
        network = self._network_of(address)
        if network is None or self._most is None:
            return
        now = self._now()
        found = self._addresses.setdefault(network, _Address(now))
        found.forget(now)
        found.under_way = max(0, found.under_way - 1)
        if has_failed:
            found.failures = min(found.failures + 1, self._most + math.log2(LONGEST_PAUSE))
            if found.failures > self._most - 1:
                found.next_at = max(found.next_at, now + self._pause(network, found))
            _renew(self._addresses, network)
            self._make_room(now)
        elif has_failed is False:
            found.failures = max(0.0, found.failures - 1)
            found.next_at = min(found.next_at, now + LONGEST_PAUSE_AFTER_SUCCESS)
            self._succeeded.setdefault(network)
            _renew(self._succeeded, network)
            if len(self._succeeded) > MOST_ADDRESSES:
                del self._succeeded[next(iter(self._succeeded))]
        if found.is_clean:
            del self._addresses[network]

    def _pause(self, network: str, found: _Address) -> float:
        """Return the seconds between two turns of an address."""
        longest = LONGEST_PAUSE_AFTER_SUCCESS if network in self._succeeded else LONGEST_PAUSE
        beyond = math.ceil(found.failures) - (self._most or 0)
        return min(2.0 ** max(0, beyond), longest)

    def _make_room(self, now: float) -> None:
        """Drop addresses of the longest ago: those that are clean by now, and those that are too many."""
        while True:
            network, oldest = next(iter(self._addresses.items()))
            oldest.forget(now)
            if not oldest.is_clean and len(self._addresses) <= MOST_ADDRESSES:
                return
            del self._addresses[network]


def _renew(addresses: dict[str, Any], network: str) -> None:
    addresses[network] = addresses.pop(network)
