"""Our dispatcher for asyncio, to many ids in turn."""

import asyncio
import sys
from collections.abc import Iterable
from typing import Any

from mesa_ws import AsyncDispatcher, Message

from ..servers.orders import obey_orders, run
from . import AT_ONCE, recipients

TICK = 16
"""Messages that are sent together at a fixed rate."""

url, namespace, sync = sys.argv[1:]


async def main() -> None:
    async with AsyncDispatcher(url, namespace=namespace, sync=sync == "sync", timeout=30) as dispatcher:

        async def send(numbers: Iterable[int], data: Any, type: str, **whom: int) -> None:
            calls = (dispatcher.dispatch(Message(0, data, type), recipients(n, **whom)) for n in numbers)
            await asyncio.gather(*calls)

        async def dispatch(messages: int, rate: int = 0, **details: Any) -> None:
            loop = asyncio.get_running_loop()
            began, step = loop.time(), TICK if rate else AT_ONCE
            for start in range(0, messages, step):
                if rate:
                    await asyncio.sleep(began + start / rate - loop.time())
                await send(range(start, min(start + step, messages)), **details)

        await obey_orders(0, {"dispatch": dispatch})


run(main)
