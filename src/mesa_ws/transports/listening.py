"""Listening sockets: every address of every host, on one port."""

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..errors import ListenFailed

ATTEMPTS = 16
"""Free ports that are tried until one is free on every address."""

_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""How the system refuses an address of a family that is switched off."""

HostOrHosts = str | Sequence[str]


async def listen(hosts: HostOrHosts, port: int, *, backlog: int, who: str = "") -> list[socket.socket]:
    """Listen on one TCP port of every address of `hosts`.

    A name may have addresses that this machine lacks, such as `::1` where IPv6 is off; one that it
    has is enough.

    Args:
        hosts: an address or a name, several of them, or an empty string for every address.
        port: 0 for one that is free on all of them.
        backlog: connections that may wait to be accepted.
        who: how an error begins.

    Raises:
        ListenFailed: the port is in use, or a host is not of this machine.
    """
    places = await _resolve(listed(hosts), port, who)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return listen_on(places, port, backlog)
        except _Refused as refused:
            is_taken = refused.error.errno == errno.EADDRINUSE
            if port != 0 or not is_taken or attempt == ATTEMPTS:
                raise _failure(who, refused.host, port, refused.error) from refused.error
    raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover


def told_host(hosts: HostOrHosts) -> str:
    """The host to tell clients: the first one, or one that stands for every address."""
    return listed(hosts)[0] or "localhost"


def authority(hosts: HostOrHosts, port: int) -> str:
    """Host and port as they stand in a URL that reaches a server on `hosts`."""
    host = told_host(hosts)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Place(NamedTuple):
    """One address to listen on, and the host that it is of."""

    host: str
    family: int
    protocol: int
    address: tuple[Any, ...]


class _Refused(Exception):
    def __init__(self, host: str, error: OSError) -> None:
        super().__init__(host, error)
        self.host = host
        self.error = error


def listed(hosts: HostOrHosts) -> list[str]:
    """Hosts as a list."""
    return [hosts] if isinstance(hosts, str) else list(hosts)


async def _resolve(hosts: list[str], port: int, who: str) -> list[_Place]:
    loop = asyncio.get_running_loop()
    places: dict[tuple[Any, ...], _Place] = {}
    for host in hosts:
        try:
            found = await loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, ValueError) as error:
            raise _failure(who, host, port, error) from error
        for family, _, protocol, _, address in found:
            places.setdefault(address, _Place(host, family, protocol, address))
    return list(places.values())


def listen_on(places: list[_Place], port: int, backlog: int) -> list[socket.socket]:
    """Listen on each place, all on the port that the first one gets."""
    listeners: dict[str, list[socket.socket]] = {}
    absent: dict[str, OSError] = {}
    with ExitStack() as stack:
        for place in places:
            try:
                listener = _listener(place, port, backlog)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise _Refused(place.host, error) from error
                absent[place.host] = error
                continue
            stack.callback(listener.close)
            listeners.setdefault(place.host, []).append(listener)
            port = listener.getsockname()[1]
        for host, why in absent.items():
            if host not in listeners:
                raise _Refused(host, why)
        stack.pop_all()
    return [listener for group in listeners.values() for listener in group]


def _listener(place: _Place, port: int, backlog: int) -> socket.socket:
    # The protocol is named because asyncio switches Nagle's algorithm off only where it is; with
    # it on, an answer waits for the peer's delayed ACK (40 ms).
    listener = socket.socket(place.family, socket.SOCK_STREAM, place.protocol)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if place.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        host, _, *rest = place.address
        listener.bind((host, port, *rest))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _failure(who: str, host: str, port: int, error: OSError | ValueError) -> ListenFailed:
    where = f"{host}:{port}" if host else f"port {port} of every address"
    return ListenFailed(f"{who}cannot listen on {where}: {_reason(error)}")


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return "that is no name of a host"
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
