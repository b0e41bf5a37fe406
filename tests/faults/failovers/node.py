"""A server node: python -m tests.faults.failovers.node REDIS_URL NAMESPACE LEASE DURABILITY PORT.

It writes `["up"]` when it accepts clients, `["online", id]`, `["offline", id]`, `["open", connection]`,
`["authenticated", connection, id]`, `["close", connection, code]` and `["forked", id]`.
"""

import sys

from mesa_ws import Connection
from tests.faults.chaos.journal import write
from tests.faults.chaos.node import server


def main(redis_url: str, namespace: str, lease: str, durability: str, port: str) -> None:
    node = server(redis_url, namespace, float(lease), portals={"enabled": True, "durability": durability})

    @node.on_online
    def online(id: str) -> None:
        write(["online", id])

    @node.on_offline
    def offline(id: str) -> None:
        write(["offline", id])

    @node.on_connection
    def opened(connection: Connection) -> None:
        write(["open", connection.connection_id])

    @node.on_authentication
    def authenticated(connection: Connection) -> None:
        write(["authenticated", connection.connection_id, connection.id])

    @node.on_disconnection
    def closed(connection: Connection, code: int, reason: str) -> None:
        write(["close", connection.connection_id, code])

    node.run(port=int(port), on_start=lambda endpoint: write(["up"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
