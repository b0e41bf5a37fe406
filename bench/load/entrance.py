"""Letting many clients in."""

import select
import time
from collections.abc import Callable, Iterable, Iterator

from ..errors import Failed
from .arrival import Arrival

AT_ONCE = 100
"""Clients that are on their way in at the same time."""

_PATIENCE = 50.0


def let_in(
    epoll: select.epoll,
    port: int,
    numbers: Iterable[int],
    *,
    is_wire2: bool = False,
    read: Callable[[int], None] | None = None,
) -> Iterator[Arrival]:
    """Let clients in, and yield each that is ready; its socket is registered with `epoll`.

    Args:
        epoll: waits for all sockets.
        port: where the server listens.
        numbers: the clients' ids.
        is_wire2: what they speak.
        read: called with the socket of a client that is in already and gets something.

    Raises:
        Failed: the server does not let them in.
    """
    coming = iter(numbers)
    arrivals: dict[int, Arrival] = {}
    deadline = time.monotonic() + _PATIENCE

    def start(count: int) -> None:
        for _, number in zip(range(count), coming, strict=False):
            arrival = Arrival(port, number, is_wire2=is_wire2)
            arrivals[arrival.socket.fileno()] = arrival
            epoll.register(arrival.socket, select.EPOLLOUT)

    start(AT_ONCE)
    while arrivals:
        if time.monotonic() > deadline:
            raise Failed(f"{len(arrivals)} clients are not acknowledged after {_PATIENCE:g} s")
        for fd, _ in epoll.poll(1.0):
            if fd not in arrivals:
                if read is not None:
                    read(fd)
            elif _is_ready(epoll, arrivals[fd]):
                yield arrivals.pop(fd)
                start(1)


def _is_ready(epoll: select.epoll, arrival: Arrival) -> bool:
    epoll.modify(arrival.socket, select.EPOLLIN)
    return arrival.step()
