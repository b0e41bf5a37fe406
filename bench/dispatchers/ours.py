"""Our dispatcher for asyncio."""

import asyncio
import sys
from typing import Any

from mesa_ws import AsyncDispatcher, Message

from .. import wire
from ..servers.orders import obey_orders, run
from . import AT_ONCE
from .ticks import listen_for_ticks

NAMESPACE = "bench"
TARGET = sys.argv[2]


async def main() -> None:
    async with AsyncDispatcher(sys.argv[1], namespace=NAMESPACE, timeout=30) as dispatcher:
        under_way: set[asyncio.Task[Any]] = set()

        def send(at: str) -> None:
            message = Message(0, wire.data(at), wire.TYPE)
            task = asyncio.create_task(dispatcher.dispatch(message, [TARGET]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        async def dispatch(messages: int, data: Any, type: str) -> None:
            for start in range(0, messages, AT_ONCE):
                count = min(AT_ONCE, messages - start)
                calls = (dispatcher.dispatch(Message(0, data, type), [TARGET]) for _ in range(count))
                await asyncio.gather(*calls)

        await obey_orders(await listen_for_ticks(send), {"dispatch": dispatch})


run(main)
