"""Connection of many clients, some of them at a time."""

import select
import time
from collections.abc import Callable, Iterable, Iterator

from ..errors import Failed
from .dialects import DIALECTS, Dialect
from .handshake import Handshake

AT_ONCE = 100
"""Clients that connect at the same time."""

_PATIENCE = 50.0


def connect_all(
    epoll: select.epoll,
    port: int,
    numbers: Iterable[int],
    *,
    dialect: Dialect = DIALECTS["mesa"],
    at_once: int = AT_ONCE,
    read: Callable[[int], None] | None = None,
) -> Iterator[Handshake]:
    """Connect clients, and yield each that is ready; its socket is registered with `epoll`.

    Args:
        epoll: waits for all sockets.
        port: where the server listens.
        numbers: the clients' ids.
        dialect: what they speak.
        at_once: clients that connect at the same time.
        read: called with the file descriptor of a connected client that can be read.

    Raises:
        Failed: the server does not accept them.
    """
    coming = iter(numbers)
    handshakes: dict[int, Handshake] = {}
    deadline = time.monotonic() + _PATIENCE

    def start(count: int) -> None:
        for _, number in zip(range(count), coming, strict=False):
            handshake = Handshake(port, number, dialect)
            handshakes[handshake.socket.fileno()] = handshake
            epoll.register(handshake.socket, select.EPOLLOUT)

    start(at_once)
    while handshakes:
        if time.monotonic() > deadline:
            raise Failed(f"{len(handshakes)} clients are not acknowledged after {_PATIENCE:g} s")
        for fd, _ in epoll.poll(1.0):
            if fd not in handshakes:
                if read is not None:
                    read(fd)
            elif _is_ready(epoll, handshakes[fd]):
                yield handshakes.pop(fd)
                start(1)


def _is_ready(epoll: select.epoll, handshake: Handshake) -> bool:
    epoll.modify(handshake.socket, select.EPOLLIN)
    return handshake.step()
