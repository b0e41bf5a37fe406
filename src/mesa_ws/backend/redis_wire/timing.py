"""Durations of leases and calls."""

from ...errors import InvalidSettings
from ...settings import Seconds, Settings

EXPIRY = 86_400.0
"""Seconds after the last heartbeat until the keys of a cluster expire."""

BEATS = 3
"""Heartbeats in one lease: two may fail."""

MISSED = 2
"""Missing markers, one for each heartbeat, after which a subscription counts as dead."""


class Timing(Settings, frozen=True, kw_only=True):
    """Checked durations, in seconds.

    Args:
        timeout: limit of one call, connecting included.
        lease: time without a heartbeat after which a node counts as dead.
        expiry: time after the last heartbeat until only stored messages of a cluster are left in Redis.
    """

    timeout: Seconds = 5.0
    lease: Seconds = 15.0
    expiry: Seconds = EXPIRY

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.expiry < 2 * self.lease:
            raise InvalidSettings("expiry", f"at least twice the lease, {2 * self.lease:g} s", self.expiry)

    @classmethod
    def _path(cls, name: str) -> str:
        return name
