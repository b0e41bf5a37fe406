"""redis-py's own PUBLISH: for asyncio a pipeline of all that go at once, blocking one after another.

Arguments: the URL of a Redis; the recipient; `blocking`.
"""

import sys
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from .. import wire
from ..bare_redis import CHANNEL
from ..servers.orders import obey_orders, run
from . import AT_ONCE, BATCH
from .blocking_orders import obey_blocking

*blocking, url, target = sys.argv[1:]


def message() -> bytes:
    return target.encode() + b" " + wire.body()


async def main() -> None:
    async with AsyncRedis.from_url(url) as client:

        async def send(messages: int, at_once: int) -> None:
            for start in range(0, messages, at_once):
                async with client.pipeline(transaction=False) as pipeline:
                    for _ in range(min(at_once, messages - start)):
                        pipeline.publish(CHANNEL, message())
                    await pipeline.execute()

        async def dispatch(messages: int, **_: Any) -> None:
            await send(messages, AT_ONCE)

        async def batches(messages: int, **_: Any) -> None:
            await send(messages, BATCH)

        await obey_orders(0, {"dispatch": dispatch, "batches": batches})


if blocking:
    with Redis.from_url(url) as client:

        def dispatch(messages: int, **_: Any) -> None:
            for _message in range(messages):
                client.publish(CHANNEL, message())

        obey_blocking(dispatch)
else:
    run(main)
