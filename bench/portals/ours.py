"""Our portal, with a handler that counts."""

import asyncio
import sys
from contextlib import suppress

from mesa_ws import Portal, PortalEvent

from ..servers.orders import answer, obey_orders, run
from . import LULL

redis, namespace, wire = sys.argv[1:]
portal = Portal(redis, namespace=namespace, wire="mesa1" if wire == "mesa1" else "native")
handled: list[str] = []
news = asyncio.Event()


@portal.on_message
async def note(event: PortalEvent) -> None:
    handled.append(event.key)
    news.set()


async def count(messages: int) -> None:
    with suppress(TimeoutError):
        while len(handled) < messages:
            news.clear()
            async with asyncio.timeout(LULL):
                await news.wait()
    answer({"handled": len(set(handled))})
    handled.clear()


async def main() -> None:
    async with portal:
        await obey_orders(0, {"count": count})


run(main)
