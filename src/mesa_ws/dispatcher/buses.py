"""Which bus an address leads to: Redis, or a server's HTTP API."""

from collections.abc import Container
from typing import TypeGuard

from ..backend.base import AsyncBus, BlockingBus
from ..backend.http import AsyncHttpBus, BlockingHttpBus
from ..backend.mesa1 import Mesa1
from ..backend.redis import Address, AsyncRedisBus, BlockingRedisBus, Given, Native
from ..errors import InvalidSettings
from ..message import WIRE1_OPCODES, reserved_opcodes
from ..settings import Sync, Wire, check_wire
from ..text import plain

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
        _redis(url, key), namespace=namespace, timeout=timeout, sync=sync, dialect=dialect
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
    return AsyncRedisBus(_redis(url, key), namespace=namespace, timeout=timeout, sync=sync, dialect=dialect)


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


def _redis(url: object, key: str | None) -> Address:
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
