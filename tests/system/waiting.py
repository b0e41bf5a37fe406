"""Helpers to wait for a condition."""

import asyncio
from collections.abc import Awaitable, Callable

from mesa_ws.backend.queries import Online
from mesa_ws.errors import BackendUnavailable
from mesa_ws.messages.envelope import prepare
from mesa_ws.messages.message import Message
from tests.contract.cluster import LIMIT, Node

HELLO = Message(0, "hello", "HELLO")


async def until(holds: Callable[[], Awaitable[bool] | bool]) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(LIMIT):
        while True:
            result = holds()
            if result if isinstance(result, bool) else await result:
                return
            await asyncio.sleep(0.01)


async def until_ready(*nodes: Node) -> None:
    await until(lambda: all(node.backend.is_ready for node in nodes))


async def until_online(node: Node, id: str, count: int) -> None:
    async def is_so() -> bool:
        try:
            return await node.backend.query(Online([id])) == {id: count}
        except BackendUnavailable:
            return False

    await until(is_so)


async def deliver(sender: Node, holder: Node, id: str = "alice") -> None:
    """Send a message to an id of `holder`, and wait until it arrives."""
    sent = prepare(HELLO, [id])
    await sender.backend.dispatch([sent])
    await holder.until(sent.message_id)
