"""The native Redis backend: leases, routed hints, and one Lua script for each atomic step."""

from .address import Address, Given
from .aio import AsyncRedisBus
from .attendance import RedisAttendance
from .blocking import BlockingRedisBus
from .dialect import Native
from .node import RedisBackend

__all__ = [
    "Address",
    "AsyncRedisBus",
    "BlockingRedisBus",
    "Given",
    "Native",
    "RedisAttendance",
    "RedisBackend",
]
