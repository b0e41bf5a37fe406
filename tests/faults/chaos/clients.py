"""Clients on wire 2: python -m tests.faults.chaos.clients URL ID...

They write `["login", id]`, `["got", id, source, number]` when the handler returns, `["lost", id, n]`,
`["reset", id]` and `["ended", id, why]`.
"""

import asyncio
import sys

from mesa_ws import Client, ConnectionInfo, Keepalive, MesaError, Message, Reconnection

from .journal import write

SLOW = 0.2
"""Seconds that a slow client takes for each message; every tenth client is slow."""


def client(url: str, id: str, pause: float) -> Client:
    """A client that reconnects soon, and logs what it receives."""
    hasty = Client(
        url,
        reconnect=Reconnection(interval=0.3, max_pause=1.3),
        keepalive=Keepalive(interval=2.0, timeout=2.0),
    )
    return recorded(hasty, id, pause)


def recorded(client: Client, id: str, pause: float) -> Client:
    """Let a client log what it receives, and take `pause` seconds for each message."""

    @client.on_message
    async def got(message: Message) -> None:
        if pause:
            await asyncio.sleep(pause)
        write(["got", id, *message.data["label"]])

    @client.on_connected
    def connected(info: ConnectionInfo) -> None:
        write(["login", id])

    @client.on_lost
    def lost(n: int) -> None:
        write(["lost", id, n])

    @client.on_reset
    def reset() -> None:
        write(["reset", id])

    return client


async def stay(client: Client, id: str) -> None:
    """Log in as `id`, and stay connected."""
    try:
        await client.connect()
        await client.authenticate({"id": id}, timeout=30)
        write(["ready", id])
        await client.wait_closed()
    except MesaError as error:
        write(["ended", id, str(error)])
        raise


def pause_of(place: int) -> float:
    """Return the seconds that a client takes for each message."""
    return SLOW if place % 10 == 0 else 0


async def main(url: str, *ids: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for place, id in enumerate(ids):
            tasks.create_task(stay(client(url, id, pause_of(place)), id))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
