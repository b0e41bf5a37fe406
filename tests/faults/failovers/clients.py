"""Clients that listen, and may talk: python -m tests.faults.failovers.clients URLS PACE ID...

They are spread over the servers. Each sends a number to portals every PACE seconds, or never if PACE
is 0. They write the records of `tests.faults.chaos.clients`, and `["cut", id, code]`, `["forked", id]`
and `["sent", id, number]`. On SIGTERM, they close.
"""

import asyncio
import signal
import sys

from mesa_ws import Client, Message
from tests.faults.chaos.clients import client, stay
from tests.faults.chaos.journal import write


def watched(url: str, id: str) -> Client:
    """A client that also logs the events of its connection."""
    each = client(url, id, 0)

    @each.on_disconnected
    def cut(code: int, reason: str, will_reconnect: bool) -> None:
        write(["cut", id, code])

    @each.on_forked
    def forked() -> None:
        write(["forked", id])

    return each


async def talk(each: Client, id: str, pace: float, is_over: asyncio.Event) -> None:
    """Send numbers until the run is over."""
    number = 0
    while not is_over.is_set():
        if each.is_authenticated:
            await each.send(Message(0, number, "NUMBER"))
            write(["sent", id, number])
            number += 1
        await asyncio.sleep(pace)


async def live(each: Client, id: str, pace: float, phase: float, is_over: asyncio.Event) -> None:
    """Stay connected until the run is over."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(stay(each, id))
        if pace:
            await asyncio.sleep(phase * pace)
            await talk(each, id, pace, is_over)
        await is_over.wait()
        await each.aclose()


async def main(urls: str, pace: str, *ids: str) -> None:
    servers = urls.split(",")
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    async with asyncio.TaskGroup() as tasks:
        for place, id in enumerate(ids):
            each = watched(servers[place % len(servers)], id)
            tasks.create_task(live(each, id, float(pace), place / len(ids), is_over))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
