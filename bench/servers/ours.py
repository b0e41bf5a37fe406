"""Our server as an application would write it.

Arguments, all optional: the URL of a Redis; `sync`, to have messages stored; a namespace; the wire on
which clients' messages go to portals, if they do.
"""

import asyncio
import sys
from typing import Any

from mesa_ws import Connection, Message, Server, User, serve

from .orders import obey_orders, run

redis, sync, namespace, portals = (*sys.argv[1:], *(None, "", "bench", "")[len(sys.argv) - 1 :])

FASTEST = 10**9
"""Messages a second that no client sends, so that rates are counted and never met."""

# The load generator does not answer Pings: keepalive is on, with an interval longer than a run.
server = Server(
    redis,
    namespace=namespace,
    sync=sync == "sync",
    portals=bool(portals),
    wire="mesa1" if portals == "mesa1" else "native",
    keepalive={"interval": 3600},
    rates={"messages_per_connection": FASTEST, "messages_per_id": FASTEST},
)


@server.authenticator
async def authenticate(data: dict[str, Any], connection: Connection) -> User:
    return User(data["id"])


async def everybody(messages: int, data: Any, type: str, each: int = 1) -> None:
    for _turn in range(messages // each):
        for _ in range(each):
            await server.send(Message(0, data, type))
        await asyncio.sleep(0)


async def single(messages: int, data: Any, type: str, connections: int) -> None:
    for number in range(messages):
        await server.send(Message(0, data, type), [str(number % connections)])
        await asyncio.sleep(0)


async def main() -> None:
    async with serve(server) as endpoint:
        await obey_orders(endpoint.port, {"everybody": everybody, "single": single})


if __name__ == "__main__":
    run(main)
