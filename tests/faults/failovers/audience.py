"""Clients that listen and talk: python -m tests.faults.failovers.audience URLS ID...

They are spread over the servers. Each sends numbers to portals. Writes what `tests.faults.chaos.audience`
does, and `["cut", id, code]`, `["forked", id]` and `["sent", id, number]`. SIGTERM: they close.
"""

import asyncio
import signal
import sys

from mesa_ws import Client, Message
from tests.faults.chaos.audience import client, stay
from tests.faults.chaos.journal import write

PACE = 0.5
"""Seconds between two messages of one client."""


def talkative(url: str, id: str) -> Client:
    """A client that also writes down what befalls its connection."""
    each = client(url, id, 0)

    @each.on_disconnected
    def cut(code: int, reason: str, will_reconnect: bool) -> None:
        write(["cut", id, code])

    return each


async def talk(each: Client, id: str, is_over: asyncio.Event, phase: float) -> None:
    """Send numbers until it is over, and then close."""
    number = 0
    await asyncio.sleep(phase)
    while not is_over.is_set():
        if each.is_authenticated:
            await each.send(Message(0, number, "NUMBER"))
            write(["sent", id, number])
            number += 1
        await asyncio.sleep(PACE)
    await each.aclose()


async def main(urls: str, *ids: str) -> None:
    servers = urls.split(",")
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    async with asyncio.TaskGroup() as tasks:
        for place, id in enumerate(ids):
            each = talkative(servers[place % len(servers)], id)
            tasks.create_task(stay(each, id))
            tasks.create_task(talk(each, id, is_over, PACE * place / len(ids)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
