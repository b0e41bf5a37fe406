"""Listen on every address of every host, on one port, and accept TCP connections.

The accept loops of asyncio, uvloop and aiofastnet do not survive a process that is out of file
descriptors: asyncio reports the same error once for every connection of the backlog, every second;
aiofastnet fails to pause at all and fills CPU and log; libuv closes every connection that waits.
`Acceptor` stops accepting for a while. Connections wait in the backlog, the server serves the clients
that are connected, and the log has one line.

`Acceptor` leaves some descriptors for other things: a server whose connections to Redis broke has to
open new ones, and would never get them if waiting clients took every descriptor that becomes free.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

from ..concurrency.limited_log import LimitedLog
from ..concurrency.tasks import start
from ..errors import ListenFailed
from ..text import plain

ATTEMPTS = 16
"""Free ports that are tried until one is free on every address."""

_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Errors of the system for an address of a family that is switched off."""

HostOrHosts = str | Sequence[str]


async def listen(hosts: HostOrHosts, port: int, *, backlog: int, who: str = "") -> list[socket.socket]:
    """Listen on one TCP port of every address of `hosts`.

    A name may have addresses that this machine lacks, such as `::1` where IPv6 is off; one address
    that the machine has is enough.

    Args:
        hosts: an address or a name, several of them, or an empty string for every address.
        port: 0 for one that is free on all of them.
        backlog: connections that may wait to be accepted.
        who: the beginning of an error's text.

    Raises:
        ListenFailed: the port is in use, or a host is not an address of this machine.
    """
    places = await _resolve(listed(hosts), port, who)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return listen_on(places, port, backlog)
        except _CannotListen as refused:
            is_taken = refused.error.errno == errno.EADDRINUSE
            if port != 0 or not is_taken or attempt == ATTEMPTS:
                raise _failure(who, refused.host, port, refused.error) from refused.error
    raise AssertionError("unreachable: the last attempt returns or raises")  # pragma: no cover


def advertised_host(hosts: HostOrHosts) -> str:
    """Return the host to name to clients: the first one, or one that stands for every address."""
    return plain(listed(hosts)[0]) or "localhost"


def authority(hosts: HostOrHosts, port: int) -> str:
    """Return host and port for the URL of a server on `hosts`."""
    host = advertised_host(hosts)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _ListenAddress(NamedTuple):
    """One address to listen on, and the host that it belongs to."""

    host: str
    family: int
    protocol: int
    address: tuple[Any, ...]


class _CannotListen(Exception):
    def __init__(self, host: str, error: OSError) -> None:
        super().__init__(host, error)
        self.host = host
        self.error = error


def listed(hosts: HostOrHosts) -> list[str]:
    """Return hosts as a list."""
    return [hosts] if isinstance(hosts, str) else list(hosts)


async def _resolve(hosts: list[str], port: int, who: str) -> list[_ListenAddress]:
    loop = asyncio.get_running_loop()
    places: dict[tuple[Any, ...], _ListenAddress] = {}
    for host in hosts:
        try:
            found = await loop.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except (OSError, ValueError) as error:
            raise _failure(who, host, port, error) from error
        for family, _, protocol, _, address in found:
            places.setdefault(address, _ListenAddress(host, family, protocol, address))
    return list(places.values())


def listen_on(places: list[_ListenAddress], port: int, backlog: int) -> list[socket.socket]:
    """Listen on each address, all on the port that the first one gets."""
    listeners: dict[str, list[socket.socket]] = {}
    absent: dict[str, OSError] = {}
    with ExitStack() as stack:
        for place in places:
            try:
                listener = _listener(place, port, backlog)
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise _CannotListen(place.host, error) from error
                absent[place.host] = error
                continue
            stack.callback(listener.close)
            listeners.setdefault(place.host, []).append(listener)
            port = listener.getsockname()[1]
        for host, why in absent.items():
            if host not in listeners:
                raise _CannotListen(host, why)
        stack.pop_all()
    return [listener for group in listeners.values() for listener in group]


def _listener(place: _ListenAddress, port: int, backlog: int) -> socket.socket:
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


log = logging.getLogger("mesa_ws.server")

RETRY = 1.0
"""Seconds without accepting after the system was out of descriptors."""

EPISODE = 60.0
"""Seconds without such an error after which the next one is logged as a new one."""

BURST = 32
"""Connections to accept before the event loop does other work."""

REST = 0.01
"""Seconds without accepting while there is too much to do, before it is looked again."""

LONGEST_REST = 1.0
"""Seconds of that after which a burst is accepted all the same; a server may be busy for ever."""

SMALL = 256
"""Descriptors of a process; one that has fewer keeps a smaller reserve, in proportion."""

_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_OF_ONE_CONNECTION = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNRESET", "ETIMEDOUT", "EPROTO", "ENOPROTOOPT", "EOPNOTSUPP"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ENONET"),
    )
    if hasattr(errno, name)
)
"""Errors of a connection that failed before it was accepted, which Linux reports here: see accept(2)."""


Arrive = Callable[[socket.socket], Coroutine[Any, Any, None]]
"""Performs the handshakes of an accepted connection, whose socket does not block."""


class Acceptor:
    """Accepts the connections of some listening sockets. For the running event loop only.

    Args:
        listeners: sockets that listen; `close` closes them.
        arrive: run as a task for each connection. An `OSError` is the peer's fault, and closes the
            socket.
        who: the peers, as the log names them.
        reserve: descriptors of the process to leave free.
        most: handshakes under way at once; beyond, connections wait until they are accepted.
        pace: connections a second, and at once after a pause; beyond, they wait likewise.
        is_busy: whether there is so much to do that connections have to wait.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        arrive: Arrive,
        *,
        who: str,
        reserve: int,
        most: float = float("inf"),
        pace: float = float("inf"),
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._listeners = tuple(listeners)
        self._arrive = arrive
        self._who = who
        self._reserve = reserve
        self._most = most
        self._pace = pace
        self._second_is_over = 0.0  # when a whole second's connections may come at once again
        self._is_busy = is_busy
        self._loop = asyncio.get_running_loop()
        self._arriving: dict[asyncio.Task[None], socket.socket] = {}
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._full: set[socket.socket] = set()  # listeners that wait for the end of a handshake
        self._log = LimitedLog(log)
        self._had_no_room_at = float("-inf")
        self._is_closed = False

    def start(self) -> None:
        """Begin to accept connections."""
        for listener in self._listeners:
            self._watch(listener)

    def close(self) -> None:
        """Close the listening sockets, and drop unfinished handshakes; a second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for timer in self._paused.values():
            timer.cancel()
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        for arrival in self._arriving:
            arrival.cancel()
        self._log.close()

    async def wait_closed(self) -> None:
        """Wait until no connection is in its handshakes."""
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _watch(self, listener: socket.socket) -> None:
        self._paused.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        if self._is_busy():
            self._loop.remove_reader(listener)
            self._log.warning("new %s wait: the server has too much to do", self._who)
            self._rest(listener, self._loop.time() + LONGEST_REST)
        else:
            self._accept_burst(listener)

    def _rest(self, listener: socket.socket, until: float) -> None:
        """Accept again once there is less to do, or it is time."""
        is_over = self._loop.time() >= until
        if self._is_busy() and not is_over:
            self._paused[listener] = self._loop.call_later(REST, self._rest, listener, until)
            return
        self._watch(listener)
        if is_over:
            self._accept_burst(listener)

    def _accept_burst(self, listener: socket.socket) -> None:
        try:
            ceiling = self._ceiling()
            if _lowest_free(listener) >= ceiling:
                raise OSError(errno.EMFILE, "the other descriptors are reserved")
            for _ in range(BURST):
                if len(self._arriving) >= self._most:
                    self._wait_for_handshakes(listener)
                    return
                if (early := self._second_is_over + 1 / self._pace - self._loop.time() - 1) > 0:
                    self._wait_for_pace(listener, early)
                    return
                connection = _accepted(listener)
                if connection is None:
                    continue
                self._take(connection)
                if connection.fileno() >= ceiling:
                    return
        except BlockingIOError:
            return
        except OSError as error:  # it would be reported again at once, while the connection waits
            self._pause(listener, error)

    def _wait_for_handshakes(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener)
        self._full.add(listener)
        self._log.warning("new %s wait: %d handshakes are under way", self._who, len(self._arriving))

    def _wait_for_pace(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener)
        self._paused[listener] = self._loop.call_later(max(seconds, REST), self._watch, listener)
        self._log.warning("new %s wait: %d came within a second", self._who, self._pace)

    def _take(self, connection: socket.socket) -> None:
        self._second_is_over = max(self._second_is_over, self._loop.time()) + 1 / self._pace
        arrival = start(self._arrive(connection))
        self._arriving[arrival] = connection
        arrival.add_done_callback(self._arrived)

    def _ceiling(self) -> float:
        """Return the first descriptor that is reserved for other things."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most == resource.RLIM_INFINITY:
            return float("inf")
        return most - min(self._reserve, self._reserve * most // SMALL)

    def _arrived(self, arrival: asyncio.Task[None]) -> None:
        connection = self._arriving.pop(arrival)
        while self._full and not self._is_closed:
            self._watch(self._full.pop())
        error = None if arrival.cancelled() else arrival.exception()
        if arrival.cancelled() or error is not None:
            connection.close()
        if isinstance(error, OSError):
            log.debug("one of the %s failed in the handshake: %r", self._who, error)
        elif error is not None:
            self._log.error(
                "a bug in the server cost one of the %s its connection",
                self._who,
                exc_info=error,
                kind=type(error),
            )
        if error is not None:  # the traceback refers to the transport, and that to the error
            error.__traceback__ = None

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        self._loop.remove_reader(listener)
        self._paused[listener] = self._loop.call_later(RETRY, self._watch, listener)
        now, last = self._loop.time(), self._had_no_room_at
        self._had_no_room_at = now
        problem = os.strerror(error.errno or 0).lower()
        what, advice = f"cannot accept new {self._who}", "they wait, and it is tried again every second"
        if error.errno in _NO_ROOM:
            what = f"no room for new {self._who}"
            advice = (
                "they wait until others leave; raise the limit of open files, such as with ulimit -n "
                "or LimitNOFILE"
            )
        if now - last < EPISODE:
            log.debug("still %s: %s", what, problem)
        else:
            log.warning("%s (%s): %s", what, problem, advice)


def _accepted(listener: socket.socket) -> socket.socket | None:
    """Accept a connection; None if it failed before that.

    Raises:
        BlockingIOError: no connection waits.
        OSError: the system is out of descriptors, or allows no connection.
    """
    try:
        connection, _ = listener.accept()
    except OSError as error:
        if error.errno not in _OF_ONE_CONNECTION:
            raise
        log.debug("a connection failed before it was accepted: %s", error)
        return None
    connection.setblocking(False)
    return connection


def _lowest_free(listener: socket.socket) -> int:
    """Return the number of the next descriptor: by POSIX the lowest one that is free."""
    descriptor = os.dup(listener.fileno())
    os.close(descriptor)
    return descriptor
