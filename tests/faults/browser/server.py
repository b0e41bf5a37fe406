"""A server for tabs: python -m tests.faults.browser.server REDIS_URL NAMESPACE PORT."""

import sys
from typing import Any

from mesa_ws import Connection, RedisBackend, Server, User
from tests.faults.chaos.journal import write


def main(redis_url: str, namespace: str, port: str) -> None:
    server = Server(RedisBackend(redis_url, namespace=namespace), namespace=namespace)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["token"])

    server.run(port=int(port), path="/ws", on_start=lambda endpoint: write(["up"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
