"""Clients with default settings: python -m tests.faults.rolling.clients URL ID...; see `chaos.clients`."""

import asyncio
import sys

from mesa_ws import Client
from tests.faults.chaos.clients import recorded, stay


async def main(url: str, *ids: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        for id in ids:
            tasks.create_task(stay(recorded(Client(url), id, 0), id))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
