"""Dispatcher of Mesa (see programs.py): python -m tests.faults.comparison.dispatcher WIRE REDIS NAMESPACE."""

import asyncio
import json
import sys
from typing import cast

from mesa_ws import AsyncDispatcher, Message, Receipt

from .server import Wire


async def main(wire: Wire, redis_url: str, namespace: str) -> None:
    async with AsyncDispatcher(redis_url, namespace=namespace, sync=True, wire=wire) as dispatcher:
        await dispatcher.dispatch(Message(0, None, "NOTHING"), ["unknown"])
        print("up", flush=True)
        receipts: list[Receipt] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            calls = [dispatcher.dispatch(Message(0, number, "NUMBER"), to) for number, to in json.loads(line)]
            receipts += await asyncio.gather(*calls)
            if not calls and wire == "native":
                await settled(dispatcher, receipts)
            print("done", flush=True)


async def settled(dispatcher: AsyncDispatcher, receipts: list[Receipt]) -> None:
    """Wait until the recipients have acknowledged every receipt."""
    while receipts:
        if (await dispatcher.status(receipts[-1])).is_settled:
            receipts.pop()
        else:
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(cast("Wire", sys.argv[1]), *sys.argv[2:]))
