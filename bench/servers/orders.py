"""Orders to a program that runs an event loop."""

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import uvloop

Obey = Callable[..., Awaitable[None]]


async def obey_orders(port: int, orders: Mapping[str, Obey]) -> None:
    """Print the port, then obey orders until standard input ends."""
    answer({"port": port})
    async for order, details in read_orders():
        await {**orders, "collect": _collect}[order](**details)
        answer({})


async def read_orders() -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Read orders, each with its details, until standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        details = json.loads(line)
        yield details.pop("order"), details


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program on the event loop that all Python peers share."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_awaited(main))


async def _awaited(main: Callable[[], Awaitable[None]]) -> None:
    await main()


async def _collect() -> None:
    gc.collect()


def answer(content: dict[str, Any]) -> None:
    """Print the answer to an order."""
    print(json.dumps(content), flush=True)
