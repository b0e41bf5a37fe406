"""The server that is attacked.

Arguments, all may be empty: the URL of a Redis, for portals; a namespace there; a file with a certificate.
"""

import asyncio
import ssl
import sys
from contextlib import AsyncExitStack
from typing import Any

from mesa_ws import Connection, Message, Portal, PortalEvent, Server, User, serve

from ..servers.orders import obey_orders, run

WORK = 0.05
"""Seconds that the handler of a portal waits for others, such as a database."""

INTERVAL = 0.1
"""Seconds between two messages to the same clients."""

sending: list[asyncio.Task[None]] = []

redis, namespace, certificate = sys.argv[1:]
server = Server(redis or None, namespace=namespace or None, portals=bool(redis))


@server.authenticator
async def authenticate(data: dict[str, Any], connection: Connection) -> User:
    return User(data["id"])


async def main() -> None:
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    async with serve(server, "127.0.0.1", 0, ssl=context) as endpoint, AsyncExitStack() as stack:
        if redis:
            await stack.enter_async_context(portal(redis))
        else:
            server.on_message("PING")(pong)
            server.on_message("NOTHING")(ignore)
        await obey_orders(endpoint.port, {"send": send})


async def send(connections: int) -> None:
    """Begin to send, as soon as so many hostile clients have logged in."""
    while len(server.fanout.by_id.get("deaf", ())) < connections:  # noqa: ASYNC110 - once, before it begins
        await asyncio.sleep(0.01)
    sending.append(asyncio.create_task(send_on()))


async def send_on() -> None:
    """Send to everybody and to hostile clients, without end."""
    message = Message(0, "x" * 4096, "NEWS")
    while True:
        for recipients in ("*", ["deaf"]):
            await server.send(message, recipients)
            await asyncio.sleep(INTERVAL / 2)


async def pong(message: Message, connection: Connection) -> None:
    connection.send(Message(0, message.data, "PONG"))


async def ignore(message: Message, connection: Connection) -> None:
    pass


def portal(url: str) -> Portal:
    portal = Portal(url, namespace=namespace)

    @portal.on_message
    async def handle(event: PortalEvent) -> None:
        if event.message is not None and event.message.type == "PING":
            await event.reply(Message(0, event.message.data, "PONG"))
        else:
            await asyncio.sleep(WORK)

    return portal


run(main)
