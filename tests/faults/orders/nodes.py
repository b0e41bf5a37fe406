"""Server nodes in one process: python -m tests.faults.orders.nodes NAMESPACE LEASE REDIS_URL...

One for each URL. It writes `["up", url, node]` for each, when all of them accept clients.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Any

from mesa_ws import Connection, RedisBackend, Server, User
from mesa_ws.transports.run import serve
from tests.faults.chaos.journal import write


def trusting(redis_url: str, namespace: str, lease: float) -> Server:
    """Return a server whose clients say who they are, and when their login was issued."""
    server = Server(RedisBackend(redis_url, namespace=namespace, lease=lease), sync=True)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"], issued_at=data["issued"])

    return server


async def main(namespace: str, lease: str, *redis_urls: str) -> None:
    async with AsyncExitStack() as stack:
        servers = [trusting(url, namespace, float(lease)) for url in redis_urls]
        endpoints = [await stack.enter_async_context(serve(server)) for server in servers]
        for server, endpoint in zip(servers, endpoints, strict=True):
            write(["up", endpoint.url, server.backend.node_id])
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
