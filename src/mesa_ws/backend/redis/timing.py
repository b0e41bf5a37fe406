"""The durations that Redis is used with."""

from ...errors import InvalidSettings
from ...settings import Seconds, Settings
from .keys import EXPIRY


class Timing(Settings, frozen=True, kw_only=True):
    """Checked durations, in seconds.

    Args:
        timeout: for one call, connecting included.
        lease: without a sign of life, after which others take a node for dead.
        expiry: after the last heartbeat, until nothing of a cluster is left in Redis but what is stored.
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
