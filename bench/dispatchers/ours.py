"""Our dispatcher for asyncio."""

import asyncio
import sys
from typing import Any

from mesa_ws import AsyncDispatcher, Message

from .. import wire
from ..servers.orders import obey_orders, run
from . import AT_ONCE, BATCH
from .ticks import listen_for_ticks

NAMESPACE = "bench"
url, target, *sync = sys.argv[1:]


async def main() -> None:
    async with AsyncDispatcher(url, namespace=NAMESPACE, sync=bool(sync), timeout=30) as dispatcher:
        under_way: set[asyncio.Task[Any]] = set()

        def send(at: str) -> None:
            message = Message(0, wire.data(at), wire.TYPE)
            task = asyncio.create_task(dispatcher.dispatch(message, [target]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)

        async def dispatch(messages: int, data: Any, type: str) -> None:
            for start in range(0, messages, AT_ONCE):
                count = min(AT_ONCE, messages - start)
                calls = (dispatcher.dispatch(Message(0, data, type), [target]) for _ in range(count))
                await asyncio.gather(*calls)

        async def batches(messages: int, data: Any, type: str) -> None:
            for start in range(0, messages, BATCH):
                count = min(BATCH, messages - start)
                await dispatcher.dispatch_many([(Message(0, data, type), [target]) for _ in range(count)])

        await obey_orders(await listen_for_ticks(send), {"dispatch": dispatch, "batches": batches})


run(main)
