"""Native Redis backend: leases, routed frames, and one Lua script for each atomic step."""

from ..redis_client.address import Address, Given
from .aio import AsyncRedisBus
from .backend import RedisBackend
from .blocking import BlockingRedisBus
from .operations import Native
from .portal_consumer import RedisPortalConsumer

__all__ = [
    "Address",
    "AsyncRedisBus",
    "BlockingRedisBus",
    "Given",
    "Native",
    "RedisBackend",
    "RedisPortalConsumer",
]
