"""Which bus an address leads to: Redis, or a server's HTTP API."""

from collections.abc import Container
from typing import TypeGuard

from ..errors import InvalidSettings, Unsupported
from ..messages.message import WIRE1_OPCODES, reserved_opcodes
from ..settings import Durability, ServerSettings, Sync, Wire, check_wire
from ..text import plain
from .base import AsyncBus, Backend, BlockingBus
from .http import AsyncHttpBus, BlockingHttpBus
from .inbox import PortalConsumer
from .memory import MemoryBackend, MemoryHub, MemoryPortalConsumer, check_durability
from .mesa1 import ImportingBackend, Mesa1, Mesa1Backend, Mesa1PortalConsumer
from .redis import Address, AsyncRedisBus, BlockingRedisBus, Given, Native, RedisBackend, RedisPortalConsumer

DEFAULT_URL = "redis://localhost:6379"
DEFAULT_TIMEOUT = 5.0


def blocking_bus(
    url: Given,
    *,
    namespace: str | None,
    key: str | None,
    timeout: float = DEFAULT_TIMEOUT,
    sync: Sync = Sync(),  # noqa: B008 - it is frozen
    wire: Wire = "native",
) -> BlockingBus:
    """The bus to `url`, for threads; see `Dispatcher` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used.
    """
    wire = _spoken(wire, url)
    if _is_http(url):
        return BlockingHttpBus(url, key=key, namespace=namespace, timeout=timeout)
    dialect = Mesa1 if wire == "mesa1" else Native
    return BlockingRedisBus(
        _redis_bus(url, key), namespace=namespace, timeout=timeout, sync=sync, dialect=dialect
    )


def async_bus(
    url: Given,
    *,
    namespace: str | None,
    key: str | None,
    timeout: float = DEFAULT_TIMEOUT,
    sync: Sync = Sync(),  # noqa: B008 - it is frozen
    wire: Wire = "native",
) -> AsyncBus:
    """The bus to `url`, for asyncio; see `Dispatcher` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used.
    """
    wire = _spoken(wire, url)
    if _is_http(url):
        return AsyncHttpBus(url, key=key, namespace=namespace, timeout=timeout)
    dialect = Mesa1 if wire == "mesa1" else Native
    return AsyncRedisBus(
        _redis_bus(url, key), namespace=namespace, timeout=timeout, sync=sync, dialect=dialect
    )


def reserved_on(url: object, wire: str) -> Container[int]:
    """The opcodes that a dispatcher refuses by itself; a server behind an API adds those of its wire."""
    return WIRE1_OPCODES if _is_http(url) else reserved_opcodes(plain(wire))


def _spoken(wire: object, url: object) -> Wire:
    spoken = check_wire(wire)
    if spoken == "mesa1" and _is_http(url):
        raise InvalidSettings("wire", "'native' with the http:// URL of a server, which speaks for us", wire)
    return spoken


def _is_http(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and plain(url).lower().startswith(("http://", "https://"))


def _redis_bus(url: object, key: str | None) -> Address:
    try:
        address = Address.of(url)
    except InvalidSettings as error:
        if error.field != "redis":  # one of its options is wrong
            raise
        expected = f"{error.expected}; or the http:// URL of a server's dispatch API"
        raise InvalidSettings("url", expected, error.got) from None
    if key is not None:
        raise InvalidSettings("key", "None with Redis, whose address carries the password", "a key")
    return address


DEFAULT_LEASE = 15.0

Place = Given | MemoryHub | MemoryBackend
"""Where a portal finds what clients do."""


NOTHING_KEPT = (
    "wire 'mesa1': expected no questions about events that are kept, got one; an event of 1.x is handled "
    "once and kept nowhere, use wire 'native' for that"
)


def portal_consumer(
    place: Place,
    *,
    namespace: str | None,
    lease: float = DEFAULT_LEASE,
    timeout: float = DEFAULT_TIMEOUT,
    durability: Durability = "memory",
) -> PortalConsumer:
    """A portal's seat; see `Portal` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used.
        Unsupported: portals cannot work over HTTP, and memory has no other durability.
    """
    if isinstance(place, MemoryBackend):
        place = place.hub
    if isinstance(place, MemoryHub):
        check_durability("durability", durability)
        return MemoryPortalConsumer(place, namespace=namespace)
    return RedisPortalConsumer(
        _redis_portal(place), namespace=namespace, lease=lease, timeout=timeout, durability=durability
    )


def mesa1_portal_consumer(
    place: Place, *, namespace: str | None, sees_all: bool, lease: float, timeout: float
) -> Mesa1PortalConsumer:
    """A portal's seat on the wire of 1.x; see `Portal` for the arguments.

    Raises:
        InvalidSettings: one of them cannot be used; also a place that is not a Redis.
    """
    if isinstance(place, MemoryHub | MemoryBackend):
        raise InvalidSettings("url", "a Redis with wire 'mesa1'", place)
    address = _redis_portal(place)
    return Mesa1PortalConsumer(address, namespace=namespace, sees_all=sees_all, lease=lease, timeout=timeout)


def _redis_portal(place: Given) -> Address:
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


def backend_of(given: Backend | Given | None, settings: ServerSettings) -> Backend:
    """The backend that a user gave, or said where it is.

    Raises:
        InvalidSettings: it is none, and says none; or it is not of the wire that was asked for.
    """
    _check_wire(given, settings)
    backend = _found(given, settings)
    if isinstance(backend, Mesa1Backend):
        backend.distribute_load = settings.portals.distribute_load
    return backend


def _found(given: Backend | Given | None, settings: ServerSettings) -> Backend:
    if given is None:
        return MemoryBackend(namespace=settings.namespace)
    if isinstance(given, Backend):
        return given
    try:
        return _kind(settings)(given, namespace=settings.namespace)
    except InvalidSettings as error:
        if error.field != "redis":
            raise
        raise InvalidSettings("backend", f"None, a Backend, or {error.expected}", error.got) from None


def _kind(settings: ServerSettings) -> type[RedisBackend] | type[Mesa1Backend]:
    if settings.wire == "mesa1":
        return Mesa1Backend
    return ImportingBackend if settings.import_from_1x else RedisBackend


def _check_wire(given: Backend | Given | None, settings: ServerSettings) -> None:
    is_address = given is not None and not isinstance(given, Backend)
    if settings.import_from_1x and (settings.wire != "native" or not is_address):
        raise InvalidSettings("import_from_1x", "False without wire 'native' and a Redis", True)
    if settings.wire == "mesa1" and not (is_address or isinstance(given, Mesa1Backend)):
        raise InvalidSettings("backend", "a Redis URI (--redis), or a Mesa1Backend, with wire 'mesa1'", given)
    if settings.wire == "mesa1" and settings.portals.types is not None:
        raise InvalidSettings(
            "portals.types",
            "None with wire 'mesa1', which tells portals of everything",
            settings.portals.types,
        )
    if settings.wire == "native" and isinstance(given, Mesa1Backend):
        raise InvalidSettings("wire", "'mesa1' with a Mesa1Backend", settings.wire)
