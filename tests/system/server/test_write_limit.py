"""Bytes that may wait for a client that reads late."""

import asyncio

from mesa_ws.messages.message import Message

from .conftest import Joining, Serving, accepting
from .peer import LIMIT


async def test_what_waits_below_the_limit_is_kept_until_it_is_read(serving: Serving, join: Joining) -> None:
    server = accepting()
    peer = await join(await serving(server), "1")
    (connection,) = server.connections
    # 7 MB at once: more than a socket takes, less than the 8 MiB that may wait.
    for number in range(140):
        connection.send(Message(0, [number, "x" * 50_000]))
    async with asyncio.timeout(LIMIT):
        assert [(await peer.until(op=0))["d"][0] for _ in range(140)] == list(range(140))
