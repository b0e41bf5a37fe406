"""A server in a process of its own: python cluster_server.py REDIS_URL NAMESPACE LEASE_SECONDS.

It prints its URL when it is up. It answers PING with PONG, and accepts any id.
"""

import asyncio
import signal
import sys
from typing import Any

from mesa_ws.backend.redis import RedisBackend
from mesa_ws.messages.message import Message
from mesa_ws.messages.recipients import User
from mesa_ws.server.connection import Connection
from mesa_ws.transports.run import Server, serve


async def main(redis_url: str, namespace: str, lease: str) -> None:
    # Anonymous clients must not be closed, however busy the machine is.
    server = Server(
        RedisBackend(redis_url, namespace=namespace, lease=float(lease)), authentication={"timeout": 60}
    )

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        return User(data["id"])

    @server.on_message("PING")
    async def ping(message: Message, connection: Connection) -> None:
        connection.send(Message(0, {}, "PONG"))

    @server.on_message("SEND")
    async def send(message: Message, connection: Connection) -> None:
        await server.send(
            Message(0, message.data["data"], "SENT"), message.data["to"], message.data["excluding"]
        )

    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with serve(server) as endpoint:
        print(endpoint.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
