"""A server of ours: python -m tests.faults.duel.server PORT REDIS_URL NAMESPACE SECONDS; see programs.py."""

import asyncio
import sys
from typing import Any

from mesa_ws import Connection, Endpoint, Message, Server, Sync, User


def say(text: str) -> None:
    print(text, flush=True)


def server(redis_url: str, namespace: str, redelivery: float) -> Server:
    sync = Sync(enabled=True, redelivery_interval=redelivery or None)
    server = Server(redis_url, namespace=namespace, sync=sync)

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


def main(port: str, redis_url: str, namespace: str, redelivery: str) -> None:
    def up(endpoint: Endpoint) -> None:
        say("up")

    server(redis_url, namespace, float(redelivery)).run(port=int(port), on_start=up)


if __name__ == "__main__":
    main(*sys.argv[1:])
