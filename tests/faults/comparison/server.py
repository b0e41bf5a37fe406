"""Server of Mesa: python -m tests.faults.comparison.server WIRE PORT REDIS_URL NAMESPACE SECONDS.

programs.py describes its behaviour.
"""

import asyncio
import sys
from typing import Any, Literal, cast

from mesa_ws import Connection, Endpoint, Message, Server, Sync, User

Wire = Literal["native", "mesa1"]


def say(text: str) -> None:
    print(text, flush=True)


def server(wire: Wire, redis_url: str, namespace: str, redelivery: float) -> Server:
    sync = Sync(enabled=True, redelivery_interval=redelivery or None)
    server = Server(redis_url, namespace=namespace, sync=sync, wire=wire)

    @server.authenticator
    async def authenticate(data: Any, connection: Connection) -> User:
        await asyncio.sleep(data.get("wait", 0))
        say(f"accepted {data['id']}")
        return User(data["id"])

    @server.on_message
    async def send(message: Message, connection: Connection) -> None:
        sends = [server.send(Message(0, number, "NUMBER"), to or ["*"]) for number, to in message.data]
        await asyncio.gather(*sends)
        say("sent")

    return server


def main(wire: Wire, port: str, redis_url: str, namespace: str, redelivery: str) -> None:
    def up(endpoint: Endpoint) -> None:
        say("up")

    server(wire, redis_url, namespace, float(redelivery)).run(port=int(port), on_start=up)


if __name__ == "__main__":
    main(cast("Wire", sys.argv[1]), *sys.argv[2:])
