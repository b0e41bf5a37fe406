"""Free ports for servers that a test starts later, or never."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LOWEST = 10_000

SYSTEMS_OWN = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""First port of the range from which Linux assigns ports to connections and to servers on port 0."""


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens, and which no other test gets.

    Tests run in parallel and connect often, so a port of the system's own range may be in use again before
    a server listens there. These ports are below that range, each process of a run has its own of them,
    and none is returned twice.
    """
    for port in _PORTS:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise RuntimeError("no port is free")


def _own_ports() -> Iterator[int]:
    """Yield the ports of this process, from a random one on, as another run may be active."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    ports = range(LOWEST + worker, _highest(), workers)
    first = random.randrange(len(ports))
    return iter([*ports[first:], *ports[:first]])


def _highest() -> int:
    with suppress(OSError):
        lowest_of_system = int(SYSTEMS_OWN.read_text().split()[0])
        if lowest_of_system > 2 * LOWEST:
            return lowest_of_system
    return 32_768


_PORTS = _own_ports()
