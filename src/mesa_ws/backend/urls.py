"""Choose the bus, the portal's consumer or the server's backend that an address leads to."""

from collections.abc import Callable, Container
from typing import TypeGuard

from ..errors import InvalidSettings, Unsupported
from ..messages.message import WIRE1_OPCODES, reserved_opcodes
from ..settings import Durability, ServerSettings, Sync, Wire, check_wire
from ..text import plain
from .base import AsyncBus, Backend, BlockingBus
from .http import AsyncHttpBus, BlockingHttpBus
from .importing import ImportingBackend
from .inbox import PortalConsumer
from .memory import (
    AsyncMemoryBus,
    BlockingMemoryBus,
    MemoryBackend,
    MemoryHub,
    MemoryPortalConsumer,
    check_durability,
)
from .mesa1 import Mesa1Backend, Mesa1PortalConsumer, Mesa1Wire
from .redis import (
    Address,
    AsyncRedisBus,
    BlockingRedisBus,
    Given,
    NativeWire,
    RedisBackend,
    RedisPortalConsumer,
)
from .redis_wire.operations import WireOperations

DEFAULT_URL = "redis://localhost:6379"
DEFAULT_TIMEOUT = 5.0
DEFAULT_LEASE = 15.0

NOTHING_KEPT = (
    "wire 'mesa1' keeps no events: a portal handles an event of 1.x once, and there is nothing to show, "
    "retry or drop; use wire 'native' for that"
)

_OPERATIONS: dict[Wire, Callable[[str | None], WireOperations]] = {"native": NativeWire, "mesa1": Mesa1Wire}

SharedUrl = Given | MemoryHub | MemoryBackend
"""Address at which dispatchers and portals find the servers."""


def blocking_bus(
    url: SharedUrl,
    *,
    namespace: str | None,
    key: str | None,
    timeout: float = DEFAULT_TIMEOUT,
    sync: Sync = Sync(),  # noqa: B008 - it is frozen
    wire: Wire = "native",
) -> BlockingBus:
    """Return the bus to `url` for threads; see `Dispatcher` for the arguments and errors."""
    wire = _wire_of(wire, url)
    if _is_http(url):
        return BlockingHttpBus(url, key=key, namespace=namespace, timeout=timeout)
    if isinstance(url, MemoryHub | MemoryBackend):
        return BlockingMemoryBus(_hub_of(url, key), namespace=namespace, timeout=timeout)
    address, operations = _dispatcher_redis(url, key), _OPERATIONS[wire]
    return BlockingRedisBus(address, namespace=namespace, timeout=timeout, sync=sync, wire=operations)


def async_bus(
    url: SharedUrl,
    *,
    namespace: str | None,
    key: str | None,
    timeout: float = DEFAULT_TIMEOUT,
    sync: Sync = Sync(),  # noqa: B008 - it is frozen
    wire: Wire = "native",
) -> AsyncBus:
    """Return the bus to `url` for asyncio; see `Dispatcher` for the arguments and errors."""
    wire = _wire_of(wire, url)
    if _is_http(url):
        return AsyncHttpBus(url, key=key, namespace=namespace, timeout=timeout)
    if isinstance(url, MemoryHub | MemoryBackend):
        return AsyncMemoryBus(_hub_of(url, key), namespace=namespace, timeout=timeout)
    address, operations = _dispatcher_redis(url, key), _OPERATIONS[wire]
    return AsyncRedisBus(address, namespace=namespace, timeout=timeout, sync=sync, wire=operations)


def reserved_on(url: object, wire: str) -> Container[int]:
    """Return the opcodes that a dispatcher refuses; a server behind an API also refuses those of its wire."""
    return WIRE1_OPCODES if _is_http(url) else reserved_opcodes(plain(wire))


def portal_consumer(
    url: SharedUrl,
    *,
    namespace: str | None,
    lease: float = DEFAULT_LEASE,
    timeout: float = DEFAULT_TIMEOUT,
    durability: Durability = "memory",
) -> PortalConsumer:
    """Return the consumer of a portal; see `Portal` for the arguments."""
    if isinstance(url, MemoryHub | MemoryBackend):
        check_durability("durability", durability)
        return MemoryPortalConsumer(_hub_of(url), namespace=namespace)
    return RedisPortalConsumer(
        _portal_redis(url), namespace=namespace, lease=lease, timeout=timeout, durability=durability
    )


def mesa1_portal_consumer(
    url: SharedUrl, *, namespace: str | None, sees_all: bool, lease: float, timeout: float
) -> Mesa1PortalConsumer:
    """Return the consumer of a portal on the wire of 1.x; see `Portal` for the arguments."""
    if isinstance(url, MemoryHub | MemoryBackend):
        raise InvalidSettings("url", "a Redis with wire 'mesa1'", url)
    address = _portal_redis(url)
    return Mesa1PortalConsumer(address, namespace=namespace, sees_all=sees_all, lease=lease, timeout=timeout)


def backend_of(given: Backend | Given | MemoryHub | None, settings: ServerSettings) -> Backend:
    """Return the backend that a user gave, or the one at the address that a user gave.

    Raises:
        InvalidSettings: `given` is neither, or does not fit the wire of `settings`.
    """
    if isinstance(given, MemoryHub):
        given = MemoryBackend(given, namespace=settings.namespace)
    _check_backend_wire(given, settings)
    native = ImportingBackend if settings.import_from_1x else RedisBackend
    make = Mesa1Backend if settings.wire == "mesa1" else native
    backend: Backend
    if given is None:
        backend = MemoryBackend(namespace=settings.namespace)
    elif isinstance(given, Backend):
        backend = given
    else:
        try:
            backend = make(given, namespace=settings.namespace)
        except InvalidSettings as error:
            if error.field != "redis":  # one of its options is wrong
                raise
            expected = f"None, a MemoryHub, a Backend, or {error.expected}"
            raise InvalidSettings("backend", expected, error.got) from None
    if isinstance(backend, Mesa1Backend):
        backend.distribute_load = settings.portals.distribute_load
    return backend


def _wire_of(wire: object, url: object) -> Wire:
    checked = check_wire(wire)
    if checked == "mesa1" and _is_http(url):
        raise InvalidSettings("wire", "'native' with an http:// URL, whose server chooses the wire", wire)
    if checked == "mesa1" and isinstance(url, MemoryHub | MemoryBackend):
        raise InvalidSettings("wire", "'native' with a MemoryHub, which has no other", wire)
    return checked


def _hub_of(url: MemoryHub | MemoryBackend, key: str | None = None) -> MemoryHub:
    _check_no_key(key, "a MemoryHub")
    return url.hub if isinstance(url, MemoryBackend) else url


def _is_http(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and plain(url).lower().startswith(("http://", "https://"))


def _dispatcher_redis(url: object, key: str | None) -> Address:
    address = _redis(url, "the http:// URL of a server's dispatch API, or a MemoryHub")
    _check_no_key(key, "Redis, whose address carries the password")
    return address


def _check_no_key(key: str | None, where: str) -> None:
    if key is not None:
        raise InvalidSettings("key", f"None with {where}", "a key")


def _portal_redis(url: Given) -> Address:
    if _is_http(url):
        raise Unsupported(
            "url: expected a Redis, or the MemoryHub of servers in the same process, got the URL of a "
            "dispatch API, over which portals cannot work; give the redis:// URL of the servers"
        )
    return _redis(url, "a MemoryHub")


def _redis(url: object, alternative: str) -> Address:
    try:
        return Address.of(url)
    except InvalidSettings as error:
        if error.field != "redis":  # one of its options is wrong
            raise
        raise InvalidSettings("url", f"{error.expected}; or {alternative}", error.got) from None


def _check_backend_wire(given: Backend | Given | None, settings: ServerSettings) -> None:
    is_address = given is not None and not isinstance(given, Backend)
    if settings.import_from_1x and (settings.wire != "native" or not is_address):
        raise InvalidSettings("import_from_1x", "False without wire 'native' and a Redis", True)
    if settings.wire == "mesa1" and not (is_address or isinstance(given, Mesa1Backend)):
        raise InvalidSettings("backend", "a Redis URI (--redis), or a Mesa1Backend, with wire 'mesa1'", given)
    if settings.wire == "mesa1" and settings.portals.types is not None:
        raise InvalidSettings(
            "portals.types",
            "None with wire 'mesa1', which sends portals all events",
            settings.portals.types,
        )
    if settings.wire == "native" and isinstance(given, Mesa1Backend):
        raise InvalidSettings("wire", "'mesa1' with a Mesa1Backend", settings.wire)
