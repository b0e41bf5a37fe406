"""A server with portals: python -m tests.faults.portals.server REDIS_URL NAMESPACE LEASE PORT."""

import sys
from typing import Any

from mesa_ws import Connection, RedisBackend, Server, User
from tests.faults.chaos.journal import write


def main(redis_url: str, namespace: str, lease: str, port: str) -> None:
    server = Server(
        RedisBackend(redis_url, namespace=namespace, lease=float(lease)), namespace=namespace, portals=True
    )

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    server.run(port=int(port), on_start=lambda endpoint: write(["up"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
