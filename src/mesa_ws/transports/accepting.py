"""Accept TCP connections, and wait while the system has no room for more.

The accept loops of asyncio, uvloop and aiofastnet do not survive a process that is out of file
descriptors: asyncio reports the same error once for every place in the backlog, every second;
aiofastnet fails to pause at all and fills CPU and log; libuv closes every connection that waits.
Here the listening socket is left alone for a while. Connections wait in its backlog, clients that
are connected are served, and the log has one line.

Some descriptors are left for other things: a server whose connections to Redis broke has to open new
ones, and would never get them if waiting clients took every descriptor that becomes free.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from ..concurrency.tasks import start

log = logging.getLogger("mesa_ws.server")

RETRY = 1.0
"""Seconds without accepting after the system had no room."""

EPISODE = 60.0
"""Seconds without such an error after which the next one is news."""

BURST = 128
"""Connections that are accepted before the event loop does other work."""

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
"""Takes an accepted connection, whose socket does not block, through its handshakes."""


class Acceptor:
    """Accepts the connections of some listening sockets. For the running event loop only.

    Args:
        listeners: sockets that listen; `close` closes them.
        arrive: run as a task for each connection. An `OSError` is the peer's fault; the socket is
            closed then.
        who: who connects here, as the log names them.
        reserve: descriptors of the process that are left free.
    """

    def __init__(self, listeners: Sequence[socket.socket], arrive: Arrive, *, who: str, reserve: int) -> None:
        self._listeners = tuple(listeners)
        self._arrive = arrive
        self._who = who
        self._reserve = reserve
        self._loop = asyncio.get_running_loop()
        self._arriving: dict[asyncio.Task[None], socket.socket] = {}
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._had_no_room_at = float("-inf")
        self._is_closed = False

    def start(self) -> None:
        """Accept from now on."""
        for listener in self._listeners:
            self._watch(listener)

    def close(self) -> None:
        """Close the listening sockets, and drop what is still arriving; a second call does nothing."""
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

    async def wait_closed(self) -> None:
        """Wait until nothing is arriving any more."""
        if self._arriving:
            await asyncio.wait(self._arriving)

    def _watch(self, listener: socket.socket) -> None:
        self._paused.pop(listener, None)
        self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            ceiling = self._ceiling()
            if _lowest_free(listener) >= ceiling:
                raise OSError(errno.EMFILE, "the rest is reserved")
            for _ in range(BURST):
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

    def _take(self, connection: socket.socket) -> None:
        arrival = start(self._arrive(connection))
        self._arriving[arrival] = connection
        arrival.add_done_callback(self._arrived)

    def _ceiling(self) -> float:
        """The first descriptor that is left to others."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most == resource.RLIM_INFINITY:
            return float("inf")
        return most - min(self._reserve, self._reserve * most // SMALL)

    def _arrived(self, arrival: asyncio.Task[None]) -> None:
        connection = self._arriving.pop(arrival)
        error = None if arrival.cancelled() else arrival.exception()
        if arrival.cancelled() or error is not None:
            connection.close()
        if isinstance(error, OSError):
            log.debug("one of the %s did not get through the handshake: %r", self._who, error)
        elif error is not None:
            log.error("a bug in the server cost one of the %s its connection", self._who, exc_info=error)

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
        BlockingIOError: none waits.
        OSError: the system has no room for it, or allows none.
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
    """The number that the next descriptor gets, which POSIX says is the lowest one that is free.

    Raises:
        OSError: there is none.
    """
    descriptor = os.dup(listener.fileno())
    os.close(descriptor)
    return descriptor
