"""A server node: python -m tests.faults.chaos.node REDIS_URL NAMESPACE LEASE PORT.

It writes `["up"]` when it accepts clients.
"""

import sys
from collections.abc import Mapping
from typing import Any

from mesa_ws import Connection, Endpoint, Keepalive, Presence, Reconnect, RedisBackend, Server, User

from .journal import write

RECONNECT = 0.3
"""Seconds before a client reconnects."""


def server(
    redis_url: str, namespace: str, lease: float, *, portals: Mapping[str, Any] | bool = False
) -> Server:
    """Return a server that accepts any id, and soon notices dead connections."""
    server = Server(
        RedisBackend(redis_url, namespace=namespace, lease=lease, timeout=2.0),
        sync=True,
        reconnect=Reconnect(enabled=True, interval=RECONNECT),
        keepalive=Keepalive(interval=2.0, timeout=2.0),
        presence=Presence(grace=1.0),
        portals=portals,
    )

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    return server


def main(redis_url: str, namespace: str, lease: str, port: str) -> None:
    def announce(endpoint: Endpoint) -> None:
        write(["up"])

    server(redis_url, namespace, float(lease)).run(port=int(port), on_start=announce)


if __name__ == "__main__":
    main(*sys.argv[1:])
