"""Clients that log in again and again: python -m tests.faults.failovers.logins URL...

One client for each server. It writes `["meant", id, number]` before its first attempt, and
`["confirmed", id, number]` when it is logged in. On SIGTERM, the clients end.
"""

import asyncio
import signal
import sys

from mesa_ws import Client, MesaError
from tests.faults.chaos.journal import write

PAUSE = 0.25
"""Seconds between two logins."""

AGAIN = 0.1
"""Seconds before another attempt."""

TIMEOUT = 1.5
"""Seconds for one attempt."""


async def log_in(url: str, id: str) -> bool:
    """Log in and leave; return whether that was possible."""
    try:
        async with Client(url, reconnect=False) as client:
            await client.authenticate({"id": id}, timeout=TIMEOUT)
    except MesaError:
        return False
    return True


async def log_in_again_and_again(url: str, id: str, is_over: asyncio.Event) -> None:
    """Log in until the run is over."""
    number = 0
    while not is_over.is_set():
        write(["meant", id, number])
        while not await log_in(url, id):
            await asyncio.sleep(AGAIN)
        write(["confirmed", id, number])
        number += 1
        await asyncio.sleep(PAUSE)


async def main(*urls: str) -> None:
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    async with asyncio.TaskGroup() as tasks:
        for number, url in enumerate(urls):
            tasks.create_task(log_in_again_and_again(url, f"login-{number}", is_over))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
