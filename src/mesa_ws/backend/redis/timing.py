"""The durations that Redis is used with."""

from ...settings import Seconds, Settings
from .keys import EXPIRY


class Timing(Settings, frozen=True, kw_only=True):
    """Checked durations, in seconds.

    Args:
        timeout: for one call, connecting included.
        lease: without a sign of life, after which others take a node for dead.
        expiry: after the last heartbeat, until nothing of a cluster is left in Redis.
    """

    timeout: Seconds = 5.0
    lease: Seconds = 15.0
    expiry: Seconds = EXPIRY

    @classmethod
    def _path(cls, name: str) -> str:
        return name
