"""python-socketio's emitter: a manager that only writes, to the room of one client.

Arguments: `blocking`, or nothing; the URL of a Redis; the recipient.
"""

import asyncio
import sys
from typing import Any

from socketio import AsyncRedisManager, RedisManager

from .. import wire
from ..servers.orders import obey_orders, run
from . import AT_ONCE
from .blocking_orders import obey_blocking
from .ticks import listen_for_ticks

*blocking, url, target = sys.argv[1:]


async def main() -> None:
    manager = AsyncRedisManager(url, write_only=True)
    under_way: set[asyncio.Task[Any]] = set()

    def send(at: str) -> None:
        task = asyncio.create_task(manager.emit(wire.TYPE, wire.data(at), room=target))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async def dispatch(messages: int, data: Any, type: str) -> None:
        for start in range(0, messages, AT_ONCE):
            count = min(AT_ONCE, messages - start)
            await asyncio.gather(*(manager.emit(type, data, room=target) for _ in range(count)))

    await obey_orders(await listen_for_ticks(send), {"dispatch": dispatch})


if blocking:
    emitter = RedisManager(url, write_only=True)

    def dispatch(messages: int, data: Any, type: str) -> None:
        for _ in range(messages):
            emitter.emit(type, data, room=target)

    obey_blocking(dispatch)
else:
    run(main)
