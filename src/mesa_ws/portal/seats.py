"""Which inbox an address leads to: that of a Redis, or that of this process."""

from ..backend.inbox import Attendance
from ..backend.memory import MemoryAttendance, MemoryBackend, MemoryHub, check_durability
from ..backend.mesa1 import Mesa1Attendance
from ..backend.redis import Address, Given, RedisAttendance
from ..errors import InvalidSettings, Unsupported
from ..settings import Durability
from ..text import plain

DEFAULT_URL = "redis://localhost:6379"
DEFAULT_TIMEOUT = 5.0
DEFAULT_LEASE = 15.0

Place = Given | MemoryHub | MemoryBackend
"""Where a portal finds what clients do."""


NOTHING_KEPT = (
    "wire 'mesa1': expected no questions about events that are kept, got one; an event of 1.x is handled "
    "once and kept nowhere, use wire 'native' for that"
)


def seat_at(
    place: Place,
    *,
    namespace: str | None,
    lease: float = DEFAULT_LEASE,
    timeout: float = DEFAULT_TIMEOUT,
    durability: Durability = "memory",
) -> Attendance:
    """A portal's seat; see `Portal` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used.
        Unsupported: portals cannot work over HTTP, and memory has no other durability.
    """
    if isinstance(place, MemoryBackend):
        place = place.hub
    if isinstance(place, MemoryHub):
        check_durability("durability", durability)
        return MemoryAttendance(place, namespace=namespace)
    return RedisAttendance(
        _redis(place), namespace=namespace, lease=lease, timeout=timeout, durability=durability
    )


def mesa1_seat_at(
    place: Place, *, namespace: str | None, sees_all: bool, lease: float, timeout: float
) -> Mesa1Attendance:
    """A portal's seat on the wire of 1.x; see `Portal` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used; also a place that is not a Redis.
    """
    if isinstance(place, MemoryHub | MemoryBackend):
        raise InvalidSettings("url", "a Redis with wire 'mesa1'", place)
    address = _redis(place)
    return Mesa1Attendance(address, namespace=namespace, sees_all=sees_all, lease=lease, timeout=timeout)


def _redis(place: Given) -> Address:
    if isinstance(place, str) and plain(place).lower().startswith(("http://", "https://")):
        raise Unsupported(
            "url: portals work on a Redis, or on the MemoryHub of servers in the same process, "
            "got the URL of a dispatch API; give the redis:// URL of the servers"
        )
    try:
        return Address.of(place)
    except InvalidSettings as error:
        if error.field != "redis":  # one of its options is wrong
            raise
        raise InvalidSettings("url", f"{error.expected}; or a MemoryHub", error.got) from None
