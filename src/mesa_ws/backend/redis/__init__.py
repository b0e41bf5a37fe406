"""Native Redis backend: leases, routed frames, and one Lua script for each atomic step."""

from ..redis_client.address import Address, Given
from .aio import AsyncRedisBus
from .backend import RedisBackend
from .blocking import BlockingRedisBus
from .portal_consumer import RedisPortalConsumer
from .wire import NativeWire

__all__ = [
    "Address",
    "AsyncRedisBus",
    "BlockingRedisBus",
    "Given",
    "NativeWire",
    "RedisBackend",
    "RedisPortalConsumer",
]
